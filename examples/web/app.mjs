// The page: a photo or the camera in, the classes and the heat map out.
import { colour, inside, metadata, prepare, ranking, requireInput } from "./onnxcam.mjs";

const MODEL = new URLSearchParams(location.search).get("model") ?? "explainable.onnx";
const TARGET = "cam/target";
const TOP = -1; // the class with the largest score
const LARGEST = 1600; // pixels on a side that are kept of a photo

const $ = (id) => document.getElementById(id);
const say = (text, wrong = false) => {
  $("status").textContent = text;
  $("status").className = wrong ? "wrong" : "";
};

/** Run something that may fail, and say so. */
async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    say(String(error?.message ?? error), true);
  }
}

// ----- the model -----
let model = null; // { session, ort, input, output, classes, how, where }
let target = TOP;

/** onnxruntime-web, and what it runs on: the GPU where the browser has one. */
async function runtime() {
  const wanted = new URLSearchParams(location.search).get("provider");
  const adapter = wanted !== "wasm" && (await navigator.gpu?.requestAdapter().catch(() => null));
  const where = adapter ? "webgpu" : "wasm";
  const ort = await import(adapter ? "onnxruntime-web/webgpu" : "onnxruntime-web/wasm");
  ort.env.logLevel = "error";
  return { ort, where };
}

async function load(bytes) {
  const about = metadata(bytes);
  if (!about["cam.preprocess"]) throw new Error("This file does not say how photos are prepared (cam.preprocess).");
  const { ort, where } = await runtime();
  const session = await ort.InferenceSession.create(requireInput(bytes, TARGET), { executionProviders: [where] });
  if (!session.outputNames.includes("cam/heatmap")) throw new Error("This file has no output cam/heatmap.");
  const classes = JSON.parse(about["cam.classes"] ?? "[]");
  const how = JSON.parse(about["cam.preprocess"]);
  model = { session, ort, where, classes, how, input: session.inputNames[0], output: session.outputNames[0] };
  $("class").disabled = !session.inputNames.includes(TARGET);
  $("classes").replaceChildren(...classes.map((name) => Object.assign(new Option(), { value: name })));
  say("Ready.");
}

// ----- the photo -----
/** Show a photo, a frame or a picture, as large as it is up to a limit. */
function show(source, width, height) {
  const scale = Math.min(1, LARGEST / Math.max(width, height));
  const canvas = $("photo");
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  $("stage").classList.add("filled");
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

let photo = null; // the ImageData that is explained

async function explain() {
  if (!model || !photo) return;
  const started = performance.now();
  const { session, ort } = model;
  const { type, data, shape, geometry } = prepare(photo.data, photo.width, photo.height, model.how);
  const feeds = { [model.input]: new ort.Tensor(type, data, shape) };
  if (session.inputNames.includes(TARGET)) {
    feeds[TARGET] = new ort.Tensor("int64", BigInt64Array.from([BigInt(target)]), [1]);
  }
  const results = await session.run(feeds);
  const seconds = ((performance.now() - started) / 1000).toFixed(2);
  draw(results["cam/heatmap"], geometry);
  list(ranking(results[model.output].data, 5));
  const detail = { heatmap: results["cam/heatmap"].data, scores: results[model.output].data, target };
  document.dispatchEvent(new CustomEvent("explained", { detail }));
  say(`${seconds} s on ${model.where === "webgpu" ? "the GPU" : "the processor (wasm)"}.`);
}

// ----- the answer -----
/** Lay the map over the photo, which turns grey so that every colour is the map's. */
function draw(heatmap, geometry) {
  const [height, width] = heatmap.dims.slice(-2);
  const first = heatmap.data.subarray(0, height * width);
  const values = heatmap.type === "uint8" ? Float32Array.from(first, (value) => value / 255) : first;
  const small = new OffscreenCanvas(width, height);
  small.getContext("2d").putImageData(new ImageData(colour(values), width, height), 0, 0);
  const canvas = $("map");
  canvas.width = photo.width;
  canvas.height = photo.height;
  const [y, x] = [height, width].map((size, axis) => {
    const [start, stop] = inside(geometry, axis);
    const perInput = size / geometry.size[axis];
    const perPhoto = [photo.height, photo.width][axis] / geometry.resized[axis];
    return {
      from: [start * perInput, (stop - start) * perInput],
      to: [(start - geometry.offset[axis]) * perPhoto, (stop - start) * perPhoto],
    };
  });
  const context = canvas.getContext("2d");
  context.drawImage(small, x.from[0], y.from[0], x.from[1], y.from[1], x.to[0], y.to[0], x.to[1], y.to[1]);
  $("photo").style.filter = "grayscale(1)";
}

function list(classes) {
  const chosen = target === TOP ? classes[0].index : target;
  $("top").replaceChildren(
    ...classes.map(({ index, probability }) => {
      const share = `${(100 * probability).toFixed(1)} %`;
      const button = document.createElement("button");
      button.append(Object.assign(document.createElement("span"), { textContent: name(index) }), share);
      button.style.setProperty("--share", `${100 * probability}%`);
      button.setAttribute("aria-pressed", String(index === chosen));
      button.disabled = $("class").disabled;
      button.addEventListener("click", () => choose(index));
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
}

const name = (index) => model.classes[index] ?? `class ${index}`;

function choose(index) {
  target = index;
  $("class").value = index === TOP ? "" : name(index);
  return attempt(explain);
}

// ----- the camera -----
let stream = null;

async function camera() {
  if (stream) return stop();
  stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  $("camera").textContent = "Stop the camera";
  const video = $("video");
  video.srcObject = stream;
  await video.play();
  while (stream) {
    photo = show(video, video.videoWidth, video.videoHeight);
    await explain();
    await new Promise(requestAnimationFrame);
  }
}

function stop() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  $("camera").textContent = "Use the camera";
}

// ----- what a person does -----
async function open(file) {
  stop();
  if (file.name.endsWith(".onnx")) {
    say("Loading the model…");
    target = TOP;
    await load(new Uint8Array(await file.arrayBuffer()));
  } else {
    const picture = await createImageBitmap(file).catch(() => {
      throw new Error(`'${file.name}' is no picture that this browser can show.`);
    });
    photo = show(picture, picture.width, picture.height);
  }
  await choose(TOP);
}

const stage = $("stage");
const pick = () => $("file").click();
stage.addEventListener("click", pick);
stage.addEventListener("keydown", (event) => ["Enter", " "].includes(event.key) && pick());
$("choose").addEventListener("click", pick);
$("camera").addEventListener("click", () => attempt(camera));
$("file").addEventListener("change", ({ target: input }) => {
  if (input.files[0]) attempt(() => open(input.files[0]));
  input.value = "";
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  stage.classList.add("over");
});
document.addEventListener("dragleave", () => stage.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  stage.classList.remove("over");
  const file = event.dataTransfer.files[0];
  if (file) attempt(() => open(file));
});
$("strength").addEventListener("input", ({ target: input }) => ($("map").style.opacity = input.value));
$("map").style.opacity = $("strength").value;
$("class").addEventListener("change", ({ target: input }) => {
  const index = model.classes.indexOf(input.value);
  if (!input.value || index >= 0) choose(input.value ? index : TOP);
  else say(`No class '${input.value}'.`, true);
});

attempt(async () => {
  const answer = await fetch(MODEL);
  if (!answer.ok)
    throw new Error(`There is no '${MODEL}' beside this page. Make it as the README says, or drop one here.`);
  await load(new Uint8Array(await answer.arrayBuffer()));
  await attempt(explain);
});
