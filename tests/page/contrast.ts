import type { Page } from 'playwright-core';

/** Contrast of the upper edge of an element with the page, as WCAG 2 defines it: 1 to 21. */
export async function contrastOf(page: Page, selector: string): Promise<number> {
  const colours = await page.locator(selector).evaluate((element) => {
    const context = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    if (!context) throw new Error('there is no canvas');
    const { borderTopColor, backgroundColor } = getComputedStyle(element);
    const paper = getComputedStyle(document.body).backgroundColor;
    const isFilled =
      element instanceof HTMLButtonElement && !element.disabled && backgroundColor === borderTopColor;
    return [isFilled ? backgroundColor : borderTopColor, paper].map((colour) => {
      context.fillStyle = colour;
      context.fillRect(0, 0, 1, 1);
      return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
    });
  });
  const [a, b] = colours.map(luminance).sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}

function luminance(rgb: readonly number[]): number {
  const [r, g, b] = rgb.map((byte) => {
    const value = byte / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
