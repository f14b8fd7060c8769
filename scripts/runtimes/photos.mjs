// Prepare photos as the page does: photos.mjs JOBS, a JSON list of {pixels, width, height, how, output}; `pixels` and
// `output` are files, of RGBA and of the tensor.
import { readFileSync, writeFileSync } from "node:fs";
import { prepare } from "../../examples/web/onnxcam.mjs";

for (const { pixels, width, height, how, output } of JSON.parse(readFileSync(process.argv[2]))) {
  writeFileSync(output, Buffer.from(prepare(readFileSync(pixels), width, height, how).data.buffer));
}
