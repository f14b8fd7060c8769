// One case in onnxruntime-web or onnxruntime-node: [outcome, message]. `options` are those of sessions to try in turn:
// where only the second can be made, and gives the right result, the outcome is "elsewhere".
const ARRAYS = {
  float32: Float32Array, float64: Float64Array, float16: Uint16Array, int8: Int8Array, int16: Int16Array,
  int32: Int32Array, int64: BigInt64Array, uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array,
  uint64: BigUint64Array, bool: Uint8Array,
}
const TOLERANCE = 2e-3

function half(bits) {
  const exponent = (bits >> 10) & 31
  const fraction = bits & 1023
  const sign = bits >> 15 ? -1 : 1
  if (exponent === 31) return fraction ? NaN : sign * Infinity
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024))
}

function view(buffer, [, type, shape, at]) {
  const size = shape.reduce((a, b) => a * b, 1)
  return new ARRAYS[type](buffer.slice(at, at + size * ARRAYS[type].BYTES_PER_ELEMENT))
}

function numbers(data, type) {
  const values = Array.from(data, Number)
  return type === 'float16' && !(globalThis.Float16Array && data instanceof Float16Array) ? values.map(half) : values
}

function difference(found, due, buffer) {
  const [, type, shape] = due
  const size = shape.reduce((a, b) => a * b, 1)
  if (found.dims.reduce((a, b) => a * b, 1) !== size || (String(found.dims) !== String(shape) && size !== 1))
    return `shape [${found.dims}] instead of [${shape}]`
  const a = numbers(found.data, found.type)
  const b = numbers(view(buffer, due), type)
  const loose = type === 'float16' ? 2e-2 : TOLERANCE
  for (let i = 0; i < size; i++) {
    if (Object.is(a[i], b[i]) || a[i] === b[i] || (Number.isNaN(a[i]) && Number.isNaN(b[i]))) continue
    if (!(Math.abs(a[i] - b[i]) <= loose * (1 + Math.abs(b[i])))) return `${a[i]} instead of ${b[i]}`
  }
  return ''
}

const limited = (promise, seconds) =>
  Promise.race([promise, new Promise((_, no) => setTimeout(() => no(new Error('no answer in time')), 1000 * seconds))])

async function tried(ort, model, row, buffer, options) {
  let session
  try {
    session = await limited(ort.InferenceSession.create(model, options), 30)
  } catch (error) {
    return ['load', String(error.message ?? error)]
  }
  try {
    const feeds = {}
    for (const entry of row.inputs) feeds[entry[0]] = new ort.Tensor(entry[1], view(buffer, entry), entry[2])
    const found = await limited(session.run(feeds), 30)
    if (row.random) return ['ok', '']
    for (const due of row.outputs) {
      const off = found[due[0]] ? difference(found[due[0]], due, buffer) : ''
      if (off) return ['wrong', off]
    }
    return ['ok', '']
  } catch (error) {
    return ['run', String(error.message ?? error)]
  } finally {
    await session.release?.()
  }
}

export async function attempt(ort, model, row, buffer, options) {
  const first = await tried(ort, model, row, buffer, options[0])
  if (first[0] !== 'load' || options.length === 1) return first
  const second = await tried(ort, model, row, buffer, options[1])
  return second[0] === 'ok' ? ['elsewhere', first[1]] : second
}
