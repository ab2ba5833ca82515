// The review page in headless Chromium: by keyboard alone, at 1280 and 400 pixels, dark and light.
//
//   node browser.js URL NAME PASSWORD CHROMIUM [FOLDER FOR SCREENSHOTS]
//
// Prints one line for each thing that does not hold; exit status 0 only if all does.
'use strict';

const puppeteer = require('puppeteer-core');
const path = require('path');

const [url, name, password, chromium, shots] = process.argv.slice(2);
const origin = new URL(url).origin;
const ATTACK = 'x"><script>window.broken=1</script><img src=x onerror="window.broken=1">';
// One whose reason is a single long word.
const LONG = '01900000-0000-7000-8000-000000009002';
const wrong = [];

function expect(holds, otherwise) {
  if (!holds) wrong.push(otherwise);
}

// What every page must be, measured in it.
function measure() {
  const problems = [];
  const root = document.documentElement;
  if (root.scrollWidth > window.innerWidth) problems.push(`overflows: ${root.scrollWidth} of ${window.innerWidth}`);
  if (!root.lang || !document.title) problems.push('no language or title');
  if (document.querySelectorAll('h1').length !== 1) problems.push('not one h1');
  if (document.querySelector('script, iframe, object, embed, [style], [onclick], [onerror]')) problems.push('active or inline parts');
  for (const field of document.querySelectorAll('input:not([type=hidden]), select, textarea')) {
    if (!field.labels || field.labels.length === 0) problems.push(`no label: ${field.name}`);
  }
  for (const table of document.querySelectorAll('table')) {
    if (!table.querySelector('th[scope=col]')) problems.push('a table without headers');
  }
  const parse = (color) => {
    const parts = color.match(/[\d.]+/g).map(Number);
    return { rgb: parts.slice(0, 3), alpha: parts.length > 3 ? parts[3] : 1 };
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let it = element; it; it = it.parentElement) {
      const { rgb, alpha } = parse(getComputedStyle(it).backgroundColor);
      if (alpha === 1) return rgb;
    }
    return matchMedia('(prefers-color-scheme: dark)').matches ? [0, 0, 0] : [255, 255, 255];
  };
  let least = 99;
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || element.getClientRects().length === 0) continue;
    const [a, b] = [luminance(parse(getComputedStyle(element).color).rgb), luminance(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    least = Math.min(least, ratio);
    if (ratio < 4.5) problems.push(`contrast ${ratio.toFixed(2)}: ${node.data.trim().slice(0, 30)}`);
  }
  if (window.broken) problems.push('a record ran as a script');
  return { problems, least };
}

async function visit(browser, width, scheme) {
  const at = `${width}px ${scheme}`;
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  await page.setViewport({ width, height: width > 600 ? 900 : 800 });
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) wrong.push(`${at}: console: ${message.text()}`);
  });
  page.on('pageerror', (error) => wrong.push(`${at}: ${error}`));
  page.on('dialog', (dialog) => { wrong.push(`${at}: a dialog`); dialog.dismiss(); });
  page.on('request', (request) => {
    const target = request.url();
    if (!target.startsWith(`${origin}/`) && !target.startsWith('data:')) wrong.push(`${at}: a request to ${target}`);
  });

  const look = async (what) => {
    const { problems, least } = await page.evaluate(measure);
    problems.forEach((problem) => wrong.push(`${at}, ${what}: ${problem}`));
    if (shots) await page.screenshot({ path: path.join(shots, `${what}-${width}-${scheme}.png`) });
    return least;
  };
  const focused = () => page.evaluate(() => {
    const it = document.activeElement;
    const style = getComputedStyle(it);
    const isVisible = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
    return { key: it.id || it.className || it.tagName, text: it.textContent.trim(), href: it.getAttribute('href') || '', value: it.value || '', isVisible };
  });
  // Tab until something has the focus; each stop on the way must be seen.
  const reach = async (what, fits) => {
    for (let stops = 0; stops < 80; stops += 1) {
      await page.keyboard.press('Tab');
      const it = await focused();
      expect(it.isVisible, `${at}: focus is not seen on ${it.key} ${it.text}`);
      if (fits(it)) return it;
    }
    throw new Error(`${at}: ${what} is not reached by keyboard`);
  };
  const enter = () => Promise.all([page.waitForNavigation(), page.keyboard.press('Enter')]);
  const text = () => page.evaluate(() => document.body.innerText);

  await page.goto(url);
  expect(page.url() === `${origin}/login`, `${at}: no login was asked for, but ${page.url()}`);
  let least = await look('login');
  expect((await focused()).key === 'name', `${at}: the name has no focus`);
  await page.keyboard.type(name);
  await page.keyboard.press('Tab');
  await page.keyboard.type(password);
  await enter();
  expect(page.url() === `${origin}/`, `${at}: the login leads to ${page.url()}`);
  expect((await text()).includes('Nothing is wrong'), `${at}: the verification's state is missing`);
  expect((await text()).includes(ATTACK), `${at}: a record's text is not shown as it is`);
  least = Math.min(least, await look('transactions'));

  await reach('the skip link', (it) => it.key === 'skip');
  await page.keyboard.press('Enter');
  expect((await focused()).key === 'main', `${at}: the skip link leads nowhere`);
  await reach('the filters', (it) => it.key === 'filters');
  await page.keyboard.press('Enter');
  await reach('the filter', (it) => it.key === 'f-reason');
  await page.keyboard.type('TICKET 4711');
  await enter();
  const rows = await page.$$eval('tbody tr', (all) => all.map((row) => row.innerText));
  expect(rows.length === 1 && rows[0].includes('ticket 4711'), `${at}: the filter shows ${JSON.stringify(rows)}`);
  least = Math.min(least, await look('filtered'));
  await reach('the row', (it) => it.href.startsWith('transaction?'));
  await enter();
  expect((await text()).includes('fits both its neighbours'), `${at}: the chain's place is missing`);
  least = Math.min(least, await look('detail'));

  const note = `looked at it at ${at}`;
  await reach('the verdict', (it) => it.value === 'ok');
  await page.keyboard.press('Space');
  await reach('the note', (it) => it.key === 'note');
  await page.keyboard.type(note);
  await enter();
  expect((await text()).includes('Your mark is in the ledger'), `${at}: the mark is not confirmed`);
  expect((await text()).includes(note), `${at}: the mark is not shown`);
  least = Math.min(least, await look('marked'));

  await page.goto(`${url}?until=2026-11-22`);
  const isOpen = await page.$eval('details.filters', (it) => it.open);
  expect(isOpen, `${at}: the filter that is in force is folded away`);
  least = Math.min(least, await look('days'));
  // Columns must not be squeezed until words break.
  const heads = await page.$$eval('thead th', (all) => all.filter((it) => it.getClientRects().length > 0 && it.clientHeight > 60).map((it) => it.innerText));
  expect(heads.length === 0, `${at}: heads of columns are broken: ${heads}`);

  await reach('the sums', (it) => it.href === 'sums');
  await enter();
  expect((await text()).includes('customers'), `${at}: the sums are missing`);
  least = Math.min(least, await look('sums'));
  await reach('the way out', (it) => it.text === 'Log out');
  await enter();
  expect(page.url() === `${origin}/login`, `${at}: logging out leads to ${page.url()}`);
  await page.goto(url);
  expect(page.url() === `${origin}/login`, `${at}: still logged in`);
  console.log(`${at}: least contrast ${least.toFixed(2)}`);
  await context.close();
}

// Between the two widths, and what is there where nothing is.
async function between(browser) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  await page.goto(url);
  await page.type('#name', name);
  await page.type('#password', password);
  await Promise.all([page.waitForNavigation(), page.keyboard.press('Enter')]);
  for (const width of [1000, 800, 600, 320]) {
    await page.setViewport({ width, height: 800 });
    for (const where of ['', 'sums', '?reason=nothing+has+this', '?since=soon', '?kind=freeze', 'nothing', `transaction?id=${LONG}`]) {
      await page.goto(url + where);
      const { problems } = await page.evaluate(measure);
      problems.forEach((problem) => wrong.push(`${width}px, ${where}: ${problem}`));
    }
  }
  await context.close();
}

(async () => {
  const browser = await puppeteer.launch({
    executablePath: chromium,
    headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking', '--no-first-run',
      '--disable-component-update', '--disable-sync', '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1'],
  });
  try {
    for (const width of [1280, 400]) {
      for (const scheme of ['light', 'dark']) await visit(browser, width, scheme);
    }
    await between(browser);
  } catch (error) {
    wrong.push(String(error));
  } finally {
    await browser.close();
  }
  wrong.forEach((line) => console.log(`WRONG: ${line}`));
  process.exit(wrong.length === 0 ? 0 : 1);
})();
