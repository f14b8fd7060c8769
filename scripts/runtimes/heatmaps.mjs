// Heat maps of explainable files in JavaScript: heatmaps.mjs RUNTIME JOBS RESULTS MODULES.
//
// RUNTIME is "node" (onnxruntime-node), "wasm" or "webgpu" (onnxruntime-web in a headless Chromium, with a software
// adapter where there is no GPU), or "page": the page in examples/web itself, clicked through. MODULES is the folder
// node_modules. JOBS and RESULTS are as in heatmaps.py; a job has a `target` too, and a page's a `photo`, the name of
// another `choice` to click, and a `screenshot` to make. $CHROMIUM names the browser.
import { appendFileSync, createReadStream, existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { extname, join } from "node:path";
import { requireInput } from "../../examples/web/onnxcam.mjs";

const [runtime, jobs, results, modules] = process.argv.slice(2);
const require = createRequire(join(modules, "x"));
const PAGE = join(import.meta.dirname, "../../examples/web");
const TARGET = "cam/target";
const PATIENCE = 600_000;

async function inNode(job) {
  const ort = require("onnxruntime-node");
  const model = requireInput(readFileSync(job.file), TARGET);
  const session = await ort.InferenceSession.create(model, { logSeverityLevel: 4, intraOpNumThreads: 1 });
  const pixels = new Float32Array(Uint8Array.from(readFileSync(job.image)).buffer);
  const feeds = { [session.inputNames[0]]: new ort.Tensor("float32", pixels, job.shape) };
  feeds[TARGET] = new ort.Tensor("int64", [BigInt(job.target)], [1]);
  const results = await session.run(feeds);
  return { heatmap: results["cam/heatmap"].data, scores: results[session.outputNames[0]].data };
}

// ----- the browser -----
const TYPES = { ".mjs": "text/javascript", ".wasm": "application/wasm", ".html": "text/html", ".css": "text/css" };

/** A server of static files: the page and node_modules as they are, and any file of this machine below /file/. */
function serve() {
  return createServer((request, response) => {
    const path = decodeURIComponent(request.url.split("?")[0]);
    const file = path.startsWith("/file/")
      ? path.slice(5)
      : path.startsWith("/node_modules/")
        ? join(modules, path.slice(13))
        : join(PAGE, path);
    response.statusCode = existsSync(file) ? 200 : 404;
    response.setHeader("content-type", TYPES[extname(file)] ?? "application/octet-stream");
    return response.statusCode === 200 ? createReadStream(file).pipe(response) : response.end();
  }).listen(0, "127.0.0.1");
}

async function browser() {
  const software = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"];
  return require("playwright").chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ["--no-sandbox", ...(runtime === "webgpu" ? software : [])],
  });
}

async function inBrowser(page, origin, job) {
  await page.goto(`${origin}/index.html?model=none`);
  return page.evaluate(
    async ([job, where]) => {
      const ort = await import(`/node_modules/onnxruntime-web/dist/ort.${where}.min.mjs`);
      const { requireInput } = await import("/onnxcam.mjs");
      ort.env.logLevel = "fatal";
      const read = async (path) => (await fetch(`/file${path}`)).arrayBuffer();
      const model = requireInput(new Uint8Array(await read(job.file)), "cam/target");
      const session = await ort.InferenceSession.create(model, { executionProviders: [where] });
      const feeds = {
        [session.inputNames[0]]: new ort.Tensor("float32", new Float32Array(await read(job.image)), job.shape),
      };
      feeds["cam/target"] = new ort.Tensor("int64", [BigInt(job.target)], [1]);
      const results = await session.run(feeds);
      return { heatmap: [...results["cam/heatmap"].data], scores: [...results[session.outputNames[0]].data] };
    },
    [job, runtime],
  );
}

/** The page as a person uses it: a photo is chosen, the map looked at, another class clicked. */
async function onPage(page, origin, job) {
  await page.addInitScript(() => document.addEventListener("explained", ({ detail }) => (window.answer = detail)));
  await page.goto(`${origin}/index.html?provider=wasm&model=/file${job.file}`);
  await page.getByText("Ready.").waitFor();
  await page.setInputFiles("#file", job.photo);
  await page.waitForFunction(() => window.answer);
  if (job.choice) {
    await page.evaluate(() => (window.answer = null));
    await page.locator("#top button", { hasText: job.choice }).first().click();
    await page.waitForFunction(() => window.answer);
  }
  if (job.screenshot) await page.screenshot({ path: job.screenshot, fullPage: true });
  return page.evaluate(() => ({ heatmap: [...window.answer.heatmap], scores: [...window.answer.scores] }));
}

const server = runtime === "node" ? null : serve();
const chromium = runtime === "node" ? null : await browser();
const origin = server && `http://127.0.0.1:${server.address().port}`;
for (const job of JSON.parse(readFileSync(jobs))) {
  const said = {};
  const page = await chromium?.newPage({ viewport: { width: 1080, height: 820 } });
  page?.setDefaultTimeout(PATIENCE);
  try {
    const run = { node: () => inNode(job), page: () => onPage(page, origin, job) }[runtime];
    const { heatmap, scores } = await (run ?? (() => inBrowser(page, origin, job)))();
    writeFileSync(job.output, Buffer.from(Float32Array.from(heatmap).buffer));
    writeFileSync(job.scores, Buffer.from(Float32Array.from(scores).buffer));
  } catch (error) {
    said.error = String(error?.message ?? error)
      .replace(/\s+/g, " ")
      .slice(0, 400);
  }
  await page?.close();
  appendFileSync(results, JSON.stringify(said) + "\n");
}
await chromium?.close();
server?.close();
