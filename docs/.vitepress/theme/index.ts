import { useRoute } from 'vitepress';
import DefaultTheme from 'vitepress/theme';
import { defineAsyncComponent, nextTick, onMounted, watch } from 'vue';
import './style.css';

// Loaded with the pages that show them, and with no others.
export default {
  extends: DefaultTheme,
  setup() {
    // The default theme's first page has no main landmark, which readers of screens look for.
    const route = useRoute();
    const mark = () => document.querySelector('.VPContent.is-home')?.setAttribute('role', 'main');
    onMounted(mark);
    watch(
      () => route.path,
      () => void nextTick(mark),
    );
  },
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
