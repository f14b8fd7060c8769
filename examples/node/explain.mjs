// node explain.mjs FILE PHOTO OUT.png [CLASS]: the heat map of a photo, and the classes, from a file of `onnxcam convert`.
import { readFile, writeFile } from "node:fs/promises";
import * as ort from "onnxruntime-node";
import sharp from "sharp";
import { metadata, prepare, ranking, requireInput } from "../web/onnxcam.mjs";

const [file, photo, out, wanted] = process.argv.slice(2);
if (!out) {
  console.error("usage: node explain.mjs FILE PHOTO OUT.png [CLASS]");
  process.exit(2);
}

const bytes = await readFile(file);
const about = metadata(bytes);
if (!about["cam.preprocess"]) throw new Error(`'${file}' does not say how photos are prepared (cam.preprocess).`);
const classes = JSON.parse(about["cam.classes"] ?? "[]");

const session = await ort.InferenceSession.create(requireInput(bytes, "cam/target"), { logSeverityLevel: 3 });
const picture = sharp(photo).rotate().flatten({ background: "white" }).toColourspace("srgb").ensureAlpha().raw();
const { data: pixels, info } = await picture.toBuffer({ resolveWithObject: true });
const { type, data, shape } = prepare(pixels, info.width, info.height, JSON.parse(about["cam.preprocess"]));
const feeds = { [session.inputNames[0]]: new ort.Tensor(type, data, shape) };
if (session.inputNames.includes("cam/target")) {
  const made = Number.isInteger(Number(about["cam.target"])) ? Number(about["cam.target"]) : -1;
  const index = wanted === undefined ? made : classes.includes(wanted) ? classes.indexOf(wanted) : Number(wanted);
  if (!Number.isInteger(index)) throw new Error(`No class '${wanted}'.`);
  feeds["cam/target"] = new ort.Tensor("int64", BigInt64Array.from([BigInt(index)]), [1]);
}

const results = await session.run(feeds);
const map = results["cam/heatmap"];
const [height, width] = map.dims.slice(-2);
const grey = Uint8Array.from(map.data, (value) => Math.round(255 * value));
await sharp(grey, { raw: { width, height, channels: 1 } })
  .toColourspace("b-w")
  .png()
  .toFile(out);
await writeFile(out.replace(/\.png$/, "") + ".json", JSON.stringify({ height, width, map: [...map.data] }));
for (const { index, probability } of ranking(results[session.outputNames[0]].data, 5)) {
  console.log(`${probability.toFixed(3)}  ${classes[index] ?? `class ${index}`}`);
}
