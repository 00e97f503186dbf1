import DefaultTheme from 'vitepress/theme';
import { defineAsyncComponent } from 'vue';
import './style.css';

// Loaded with the pages that show them, and with no others.
export default {
  extends: DefaultTheme,
  enhanceApp({ app }: { app: import('vue').App }) {
    app.component(
      'DrawingPage',
      defineAsyncComponent(() => import('./DrawingPage.vue')),
    );
    app.component(
      'CodePlayground',
      defineAsyncComponent(() => import('./CodePlayground.vue')),
    );
    app.component(
      'TokensSlider',
      defineAsyncComponent(() => import('./TokensSlider.vue')),
    );
  },
};
