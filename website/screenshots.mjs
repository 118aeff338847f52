// Photograph pages of the built site at 1400 and 390 pixels, and report requests to other hosts and pages that are too
// wide. It needs playwright-core and a Chromium, which are no part of the project:
//
//     python -m http.server 8123 --directory build/site
//     CHROMIUM=/usr/bin/chromium node website/screenshots.mjs http://127.0.0.1:8123/ shots index.html results/index.html
//     python -m website.gallery --only site --shots shots
import { chromium } from 'playwright-core';

const [base, out, ...pages] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM });
const foreign = new Set();
const wide = [];
for (const [name, width, height, colorScheme] of [['wide', 1400, 900, 'light'], ['phone', 390, 844, 'dark']]) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme });
  const page = await context.newPage();
  page.on('request', (request) => {
    if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(base)) foreign.add(request.url());
  });
  for (const path of pages) {
    await page.goto(base + path, { waitUntil: 'load' });
    await page.waitForTimeout(400);
    if (await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth))
      wide.push(`${path} at ${width}`);
    await page.screenshot({ path: `${out}/${name}-${path.replace(/[/.]/g, '_')}.png` });
  }
}
await browser.close();
console.log('requests to other hosts:', [...foreign], 'wider than the window:', wide);
process.exit(foreign.size + wide.length ? 1 : 0);
