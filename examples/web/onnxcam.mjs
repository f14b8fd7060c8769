// What JavaScript needs beside an ONNX runtime to use a file of `onnxcam convert --emit heatmap`. No DOM: it serves Node too.

// ----- the file: protobuf, read just far enough -----
const MODEL_GRAPH = 7;
const MODEL_METADATA = 14;
const GRAPH_INITIALIZER = 5;
const TENSOR_NAME = 8;

/** The fields of a protobuf message: their number, and where their key, their content and their end are. */
function* fields(bytes, start = 0, end = bytes.length) {
  let at = start;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < end) {
    const field = { start: at };
    const key = varint();
    field.number = Math.floor(key / 8);
    const wire = key % 8;
    const size = [() => (varint(), 0), () => 8, varint, , , () => 4][wire];
    if (!size) throw new Error("This is not an ONNX file.");
    const length = size();
    field.from = at;
    field.end = at += length;
    if (field.end > end) throw new Error("This is not an ONNX file, or it is cut off.");
    yield field;
  }
}

const text = (bytes, field) => new TextDecoder().decode(bytes.subarray(field.from, field.end));
const child = (bytes, parent, number) =>
  [...fields(bytes, parent.from, parent.end)].find((field) => field.number === number);

/** The metadata of a model file: what runtimes in JavaScript do not tell. */
export function metadata(bytes) {
  const found = {};
  for (const entry of fields(bytes)) {
    if (entry.number !== MODEL_METADATA) continue;
    const value = child(bytes, entry, 2);
    found[text(bytes, child(bytes, entry, 1))] = value ? text(bytes, value) : "";
  }
  return found;
}

/**
 * The same model with an input that must be given: the runtimes in JavaScript know no optional ones. onnxruntime-web
 * refuses to take them, and onnxruntime-node runs as if they had not been given.
 */
export function requireInput(bytes, name) {
  const graph = [...fields(bytes)].find((field) => field.number === MODEL_GRAPH);
  const preset = [...fields(bytes, graph.from, graph.end)].find((field) => {
    const label = field.number === GRAPH_INITIALIZER && child(bytes, field, TENSOR_NAME);
    return label && text(bytes, label) === name;
  });
  if (!preset) return bytes;
  const header = [MODEL_GRAPH * 8 + 2];
  let length = graph.end - graph.from - (preset.end - preset.start);
  for (; length > 127; length = Math.floor(length / 128)) header.push((length % 128) + 128);
  header.push(length);
  const parts = [
    bytes.subarray(0, graph.start),
    Uint8Array.from(header),
    bytes.subarray(graph.from, preset.start),
    bytes.subarray(preset.end),
  ];
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}

// ----- the photo: prepared as onnxcam itself does it -----
const sinc = (x) => (x ? Math.sin(Math.PI * x) / (Math.PI * x) : 1);
const cubic = (a) => (x) => (x < 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : ((a * x - 5 * a) * x + 8 * a) * x - 4 * a);

// Radius, and weight at a distance within it. Pillow's filters, under Pillow's names, are antialiased: they widen where
// a photo shrinks. OpenCV's, "linear" and "cubic", are not.
const FILTERS = {
  box: [0.5, () => 1],
  bilinear: [1, (x) => 1 - x],
  hamming: [1, (x) => sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x))],
  bicubic: [2, cubic(-0.5)],
  lanczos: [3, (x) => sinc(x) * sinc(x / 3)],
  linear: [1, (x) => 1 - x],
  cubic: [2, cubic(-0.75)],
};
const OPENCV = ["linear", "cubic", "area"];
const UNIT = 2 ** 22; // Pillow's weights are whole numbers, and so each sum is exact

const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  float16: globalThis.Float16Array,
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  int32: Int32Array,
};

function halfEven(x) {
  const down = Math.floor(x);
  return x - down === 0.5 ? down + Math.abs(down % 2) : Math.round(x);
}

/** The size of a photo whose short side is brought to `side`, unless the long one exceeds `longest` then. */
function shortSide([height, width], side, longest) {
  const [short, long] = [Math.min(height, width), Math.max(height, width)];
  let sides = [side, Math.floor((side * long) / short)];
  if (longest && (long / short) * side > longest) {
    const exact = (longest * short) / long;
    sides = [Math.max(1, halfEven(exact)), Math.trunc((exact * long) / short)];
  }
  return height <= width ? sides : sides.reverse();
}

function beforeTheCrop(photo, { size, resized, shortest_edge, crop_ratio = 0.875 }) {
  if (resized) return resized;
  if (shortest_edge) return shortSide(photo, shortest_edge);
  const box = size.map((n) => Math.trunc(n / crop_ratio));
  if (box[0] === box[1]) return shortSide(photo, box[0]);
  const scale = Math.min(...box.map((n, i) => photo[i] / n));
  return photo.map((n) => halfEven(n / scale));
}

function crop(photo, how) {
  const resized = beforeTheCrop(photo, how);
  const half = how.anchor === "centre-down" ? Math.floor : halfEven;
  const offset = how.size.map((n, i) =>
    resized[i] < n ? Math.floor((n - resized[i]) / 2) : -half((resized[i] - n) / 2),
  );
  return { resized, offset, size: how.size };
}

function letterbox(photo, { size, anchor }) {
  const scale = Math.min(...size.map((n, i) => n / photo[i]));
  const whole = anchor === "top-left" ? Math.trunc : halfEven;
  const resized = photo.map((n) => Math.max(1, whole(n * scale)));
  const centred = size.map((n, i) => halfEven((n - resized[i]) / 2 - 0.1));
  return { resized, offset: anchor === "top-left" ? [0, 0] : centred, size };
}

/** Where a photo lies in a model's input: [y, x] of its size there, of its corner, and of the input. */
export function fit(photo, how) {
  const all = (shape) => ({ resized: shape, offset: [0, 0], size: shape });
  if (how.resize === "height") {
    const height = how.shortest_edge;
    return all([height, Math.max(1, halfEven((photo[1] * height) / photo[0]))]);
  }
  if (!how.size) {
    const m = how.multiple ?? 1;
    const free = how.resize === "proportional" ? shortSide(photo, how.shortest_edge, how.longest_edge) : photo;
    return all(free.map((n) => Math.max(Math.floor(n / m), 1) * m));
  }
  if (how.resize === "crop") return crop(photo, how);
  return how.resize === "letterbox" ? letterbox(photo, how) : all(how.size);
}

/** The part of an axis of the input that shows the photo, [start, stop]. */
export const inside = ({ resized, offset, size }, axis) => [
  Math.max(offset[axis], 0),
  Math.min(offset[axis] + resized[axis], size[axis]),
];

/** For each pixel of `start` to `stop` of an axis that is resized: the first pixel that it reads, and the weights. */
function taps(from, to, [start, stop], interpolation) {
  const each = (tap) => Array.from({ length: stop - start }, (_, i) => tap(start + i));
  if (from === to) return each((i) => [i, [UNIT]]);
  const scale = from / to;
  if (interpolation === "nearest") {
    let at = scale / 2; // summed one by one, as Pillow does: ties depend on it
    const places = Array.from({ length: to }, (_, i) => Math.trunc((at += i ? scale : 0)));
    return each((i) => [places[i], [UNIT]]);
  }
  const opencv = OPENCV.includes(interpolation);
  const [radius, weigh] = FILTERS[interpolation];
  const stretch = opencv ? 1 : Math.max(scale, 1);
  return each((i) => {
    const centre = (i + 0.5) * scale;
    const bounds = [centre - radius * stretch + 0.5, centre + radius * stretch + 0.5].map(Math.floor);
    const [first, last] = [Math.max(0, bounds[0]), Math.min(from, bounds[1])];
    const weights = new Array(last - first).fill(0);
    for (let j = bounds[0]; j < bounds[1]; j++) {
      const x = (j - centre + 0.5) / stretch;
      if (x <= -radius || x > radius) continue;
      // Beyond the edge, OpenCV sees the last pixel again, and Pillow nothing.
      if (opencv) weights[Math.min(Math.max(j, first), last - 1) - first] += weigh(Math.abs(x));
      else if (j >= first && j < last) weights[j - first] = weigh(Math.abs(x));
    }
    const sum = weights.reduce((a, b) => a + b, 0);
    return [first, weights.map((weight) => Math.sign(weight) * Math.floor((Math.abs(weight) / sum) * UNIT + 0.5))];
  });
}

/** The same for means of areas, as OpenCV has them; it is linear where a photo grows. */
function areas(from, to, part) {
  const scale = from / to;
  if (scale <= 1) return taps(from, to, part, "linear");
  return Array.from({ length: part[1] - part[0] }, (_, i) => {
    const [start, stop] = [(part[0] + i) * scale, (part[0] + i + 1) * scale];
    const first = Math.floor(start);
    const weights = [];
    for (let j = first; j < Math.min(from, stop); j++) {
      weights.push(((Math.min(j + 1, stop) - Math.max(j, start)) / scale) * UNIT);
    }
    return [first, weights];
  });
}

/** Resize `count` lines of numbers along one axis into `result`; lines and their pixels lie `line` and `step` apart. */
function along(source, channels, count, reads, [line, step], [toLine, toStep], result) {
  const rounded = result instanceof Uint8ClampedArray;
  for (let n = 0; n < count; n++) {
    for (let i = 0; i < reads.length; i++) {
      const [first, weights] = reads[i];
      for (let c = 0; c < channels; c++) {
        let sum = rounded ? UNIT / 2 : 0;
        let at = n * line + first * step + c;
        for (let j = 0; j < weights.length; j++, at += step) sum += weights[j] * source[at];
        result[n * toLine + i * toStep + c] = rounded ? Math.floor(sum / UNIT) : sum / UNIT;
      }
    }
  }
  return result;
}

/** Resize pixels (height × width × channels) to the part of the input that shows the photo: columns first, then rows. */
function resample(pixels, channels, [height, width], geometry, interpolation) {
  const [rows, columns] = [height, width].map((from, axis) => {
    const part = inside(geometry, axis).map((n) => n - geometry.offset[axis]);
    const to = geometry.resized[axis];
    return interpolation === "area" ? areas(from, to, part) : taps(from, to, part, interpolation);
  });
  const narrow = columns.length * channels;
  const apart = [width * channels, channels];
  const strips = new (OPENCV.includes(interpolation) ? Float32Array : Uint8ClampedArray)(height * narrow);
  along(pixels, channels, height, columns, apart, [narrow, channels], strips); // Pillow rounds in between, OpenCV does not
  const picture = new Uint8ClampedArray(rows.length * narrow);
  return along(strips, channels, columns.length, rows, [channels, narrow], [channels, narrow], picture);
}

/** RGBA as the channels that a model takes: three, or Pillow's grey. */
function channelsOf(pixels, color) {
  const order = { RGB: [0, 1, 2], BGR: [2, 1, 0] }[color ?? "RGB"];
  const result = new Uint8ClampedArray((pixels.length / 4) * (order?.length ?? 1));
  for (let from = 0, to = 0; from < pixels.length; from += 4) {
    if (order) for (const c of order) result[to++] = pixels[from + c];
    else {
      result[to++] = (pixels[from] * 19595 + pixels[from + 1] * 38470 + pixels[from + 2] * 7471 + 32768) >> 16;
    }
  }
  return result;
}

/**
 * Make a model's input from a photo: `pixels` is RGBA, as canvases and decoders give it, `how` the JSON of
 * `cam.preprocess`. Returns the tensor's type, data and shape, and the geometry.
 */
export function prepare(pixels, width, height, how) {
  const photo = [height, width];
  const geometry = fit(photo, how);
  const channels = how.color === "GRAY" ? 1 : 3;
  const interpolation = how.interpolation ?? "bilinear";
  const picture = resample(channelsOf(pixels, how.color), channels, photo, geometry, interpolation);

  const [[top, bottom], [left, right]] = [inside(geometry, 0), inside(geometry, 1)];
  const [rows, columns] = geometry.size;
  const type = how.dtype ?? "float32";
  const layout = how.layout ?? "NCHW"; // NHWC, or one that lacks samples (CHW, HWC) or colours (NHW)
  if (!ARRAYS[type]) throw new Error(`There are no arrays of ${type} here.`);
  const data = new ARRAYS[type](rows * columns * channels);
  const integers = !type.startsWith("float");
  const range = 2 ** (8 * data.BYTES_PER_ELEMENT) - 1;
  const lowest = type.startsWith("u") ? 0 : -(range + 1) / 2;
  const border = how.resize === "letterbox" ? (how.fill ?? [114]) : [0];
  const f32 = Math.fround;
  const [mean, std, fill] = [how.mean ?? [0], how.std ?? [1], border].map((values) =>
    Array.from({ length: channels }, (_, c) => f32(values[values.length > 1 ? c : 0])),
  );
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const isPhoto = y >= top && y < bottom && x >= left && x < right;
      const from = ((y - top) * (right - left) + (x - left)) * channels;
      for (let c = 0; c < channels; c++) {
        const value = f32(f32((isPhoto ? picture[from + c] : fill[c]) - mean[c]) / std[c]);
        const to = layout.endsWith("C") ? (y * columns + x) * channels + c : (c * rows + y) * columns + x;
        data[to] = integers ? Math.min(Math.max(halfEven(value), lowest), lowest + range) : value;
      }
    }
  }
  const length = { N: 1, C: channels, H: rows, W: columns };
  const shape = [...layout].map((axis) => length[axis]);
  return { type, data, shape, geometry };
}

// ----- the answer -----
/** The k largest of the scores as [{index, probability}]; scores that are no probabilities go through a softmax. */
export function ranking(scores, k) {
  const values = Array.from(scores, Number);
  const sum = values.reduce((a, b) => a + b, 0);
  const isDistribution = Math.abs(sum - 1) < 1e-3 && values.every((v) => v >= 0);
  const largest = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = isDistribution ? values : values.map((v) => Math.exp(v - largest));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers
    .map((power, index) => ({ index, probability: power / total }))
    .sort((a, b) => b.probability - a.probability)
    .slice(0, k);
}

/** A map of 0 to 1 as RGBA pixels, from blue over green to red. */
export function colour(map) {
  const pixels = new Uint8ClampedArray(map.length * 4);
  const ramp = (x) => 255 * Math.min(1, Math.max(0, 1.5 - Math.abs(4 * x)));
  map.forEach((value, i) => {
    pixels.set([ramp(value - 0.75), ramp(value - 0.5), ramp(value - 0.25), 255], i * 4);
  });
  return pixels;
}
