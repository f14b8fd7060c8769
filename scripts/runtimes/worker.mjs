// Run the cases of a bank in a JavaScript runtime, as worker.py does: worker.mjs RUNTIME BANK RESULTS START MODULES.
//
// RUNTIME is "node" (onnxruntime-node), "wasm" (onnxruntime-web on the processor, in Node) or "webgpu" (onnxruntime-web
// in a headless Chromium, with a software adapter where there is no GPU). MODULES is the folder of node_modules.
// For "webgpu" nothing may run on the processor: a case that only runs there is "elsewhere".
import { createRequire } from 'node:module'
import { appendFileSync, createReadStream, existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { extname, join } from 'node:path'
import { attempt } from './attempt.mjs'

const [runtime, bank, results, start, modules] = process.argv.slice(2)
const require = createRequire(join(modules, 'x'))
const index = JSON.parse(readFileSync(join(bank, 'index.json')))
const record = (number, [outcome, message]) =>
  appendFileSync(results, JSON.stringify([number, outcome, message.replace(/\s+/g, ' ').slice(0, 400)]) + '\n')

async function inNode() {
  const ort = require(runtime === 'node' ? 'onnxruntime-node' : 'onnxruntime-web')
  ort.env.logLevel = 'fatal'
  ort.env.wasm.numThreads = 1
  const tensors = readFileSync(join(bank, 'tensors.bin'))
  const buffer = tensors.buffer.slice(tensors.byteOffset, tensors.byteOffset + tensors.length)
  const options = { executionProviders: [runtime === 'node' ? 'cpu' : 'wasm'], logSeverityLevel: 4, intraOpNumThreads: 1 }
  for (let n = Number(start); n < index.length; n++) {
    console.error(n)
    record(n, await attempt(ort, new Uint8Array(readFileSync(join(bank, `${n}.onnx`))), index[n], buffer, [options]))
  }
}

async function inBrowser() {
  const { chromium } = require('playwright')
  const folders = { '/ort/': join(modules, 'onnxruntime-web/dist'), '/bank/': bank, '/js/': import.meta.dirname }
  const types = { '.mjs': 'text/javascript', '.wasm': 'application/wasm', '.html': 'text/html' }
  const server = createServer((request, response) => {
    const path = request.url.split('?')[0]
    const prefix = Object.keys(folders).find((p) => path.startsWith(p))
    const file = prefix && join(folders[prefix], path.slice(prefix.length))
    response.setHeader('content-type', types[extname(path)] ?? (prefix ? 'application/octet-stream' : 'text/html'))
    return file && existsSync(file) ? createReadStream(file).pipe(response) : response.end('<html></html>')
  }).listen(0, '127.0.0.1')
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan'],
  })
  const page = await browser.newPage()
  await page.goto(`http://127.0.0.1:${server.address().port}/`)
  await page.evaluate(async () => {
    globalThis.ort = await import('/ort/ort.webgpu.bundle.min.mjs')
    ort.env.logLevel = 'fatal'
    ort.env.wasm.numThreads = 1
    ort.env.wasm.wasmPaths = '/ort/'
    globalThis.attempt = (await import('/js/attempt.mjs')).attempt
    globalThis.tensors = await (await fetch('/bank/tensors.bin')).arrayBuffer()
  })
  for (let n = Number(start); n < index.length; n++) {
    console.error(n)
    const told = page.evaluate(
      async ([n, row]) => {
        const model = new Uint8Array(await (await fetch(`/bank/${n}.onnx`)).arrayBuffer())
        const options = { executionProviders: ['webgpu'], logSeverityLevel: 4, graphOptimizationLevel: 'disabled' }
        const strict = { ...options, extra: { session: { disable_cpu_ep_fallback: '1' } } }
        return attempt(ort, model, row, tensors, [strict, options])
      },
      [n, index[n]],
    )
    record(n, await told)
  }
  await browser.close()
  server.close()
}

await (runtime === 'webgpu' ? inBrowser() : inNode())
process.exit(0)
