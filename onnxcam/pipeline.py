"""`Explainer`: from arrays or photographs to maps. The only module that knows all stages."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam import image, report
from onnxcam.aimed import Asked, asked_again, into_inputs, into_photos, read_mask, refuse_lost
from onnxcam.aims import FOUND, NUMBER
from onnxcam.defaults import assumptions, find_labels, find_preprocess, of_method
from onnxcam.errors import InputError
from onnxcam.evidence import Evidence
from onnxcam.explainable import extend
from onnxcam.feeds import Inputs
from onnxcam.grad.precision import Arithmetic
from onnxcam.head import linear_head
from onnxcam.heatmap import heatmap, resize
from onnxcam.image import Photo
from onnxcam.inspection import Layer
from onnxcam.layout import spatial
from onnxcam.methods import find
from onnxcam.methods.registry import Method
from onnxcam.model import ModelLike
from onnxcam.plan import SCORE, Plan, Recipe, default_method, plan, score_sizes, told_method, told_target
from onnxcam.preprocessing import Preprocess
from onnxcam.report import Explanation
from onnxcam.rescoring import Progress, Rescoring, steps
from onnxcam.rows import beside, column, probabilities, warnings
from onnxcam.run import Session
from onnxcam.target import TOP, Floats, Ints, ranked, totals
from onnxcam.targets import Files, Target, read_targets
from onnxcam.targets.goal import TARGET
from onnxcam.trial import informed

Array = npt.NDArray[Any]
_STRIDE = 1_000_003  # between the random seeds of a sample's classes
_EMITS = {"gradient": ("activation", "gradient", "score")}


class Explainer:
    """Explains a model's predictions: `explainer(arrays)` or `explainer.images(photos)`.

    Holds one onnxruntime session; picklable and thread-safe. `layers`, `score`, `preprocess`, `labels` and `providers`
    are found where they are "auto", and `assumptions` says what was found and what was guessed. `target` is a class
    index or name, "top5" for several rows a sample, or one class per sample; None is the top class. Of an explainable
    file, what is not given (the method too) is what the file was made with; of any other, the method is gradcam.
    """

    def __init__(
        self,
        model: ModelLike,
        method: str = "auto",
        *,
        layers: str | Sequence[str] = "auto",
        target: Target = None,
        providers: str | Sequence[str] = "auto",
        preprocess: str | os.PathLike[str] | Preprocess = "auto",
        score: str = "auto",
        labels: str | os.PathLike[str] | Sequence[str] = "auto",
        batch: int = 16,
        options: Mapping[str, object] | None = None,
        arithmetic: Arithmetic = "auto",
        progress: Progress | None = None,
        seed: int = 0,
    ) -> None:
        """Choose, rewrite and load. Raises the errors of `onnxcam.convert`, and RuntimeUnavailable."""
        for name, number, least in (("batch", batch, 1), ("seed", seed, 0)):
            if not isinstance(number, int) or isinstance(number, bool) or number < least:
                raise InputError(f"{name} is {number!r}; it has to be a whole number of at least {least}.")
        chosen = plan(model, layers, score, informed)
        target = told_target(chosen.told) if target is None else target
        made, made_options = told_method(chosen.told)
        if method == "auto" and options is None:
            options = made_options
        self.target, self.batch, self.progress, self.seed = target, batch, progress, seed
        self._layers: tuple[Layer, ...] = chosen.layers
        self._score = chosen.score
        self.layers = tuple(layer.name for layer in chosen.layers)
        self.score = chosen.score.tensor
        self.labels = find_labels(labels, chosen)
        picture = chosen.inspection.sees(chosen.layers[0])
        self._inputs = Inputs(chosen.inspection.inputs, picture, score_sizes(chosen))
        self.preprocess, said = find_preprocess(preprocess, chosen)
        files = Files(read_mask, lambda path: self._embedding(path, chosen, providers))
        self._targets = read_targets(target, chosen.score, self.labels, files)
        self.method: Method = find((made or default_method(self._targets.goals)) if method == "auto" else method)
        self.method.check(options or {})
        self.options = dict(options or {})
        self._heads = (
            {x.name: linear_head(chosen.forward, x, chosen.score) for x in chosen.layers}
            if self.method.uses == "weights"
            else {}
        )
        if self._targets.goals and self._heads:
            raise InputError(f"Method '{self.method.name}' explains a class and nothing else. Use 'gradcam'.")
        emit = _EMITS.get(self.method.uses, ("activation", "score"))
        self._together = self.method.uses == "gradient" and self._targets.best
        best = f"top{self._together}" if self._together else TOP
        recipe = Recipe(emit, best, arithmetic=arithmetic, goals=self._targets.goals)
        self._model = extend(chosen, recipe).SerializeToString()
        self._folder = _folder(chosen)
        self._providers = providers
        self._lock = threading.Lock()
        self._session: Session | None = None
        self.provider = self.session.provider
        self.assumptions = assumptions(chosen, layers, score, labels, self.labels, said, providers, self.provider)
        if method == "auto" and made is None:
            self.assumptions += of_method(self.method.name, chosen)

    @property
    def session(self) -> Session:
        """The onnxruntime session, made where it is first needed: after unpickling in another process too."""
        with self._lock:
            if self._session is None:
                self._session = Session(self._model, self._folder, self._providers)
            return self._session

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_session", "_lock", "progress")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _session=None, _lock=threading.Lock(), progress=None)

    def __call__(self, inputs: Array | Mapping[str, Array]) -> Explanation:
        """Explain arrays exactly as the model takes them: one array for a model with one input, or a dict by name.

        Raises InputError for names, shapes and types that do not fit, and for targets that do not match the samples.
        """
        feeds = self._inputs.read(inputs)
        count = self._inputs.count(feeds)
        targets = self._targets.rows(count)
        parts: list[Explanation] = []
        for start, stop in steps(count, self._batch_size()):
            part = self._inputs.part(feeds, slice(start, stop))
            parts.append(self._explain(part, targets[start:stop], start, self._targets.given(start, stop)))
            if self.progress and count > stop - start:
                self.progress("explaining", stop, count)
        return report.join(parts, alone=self._inputs.bare)

    def images(self, photos: Iterable[str | os.PathLike[str] | Photo]) -> Explanation:
        """Explain photographs: paths, or arrays of uint8, RGB (H, W, 3) or grey (H, W). Maps come back at their sizes.

        Raises InputError for a photo that cannot be read, ModelError for a model without an image input.
        """
        return report.join(list(self.stream(photos)), alone=self._inputs.bare)

    def stream(self, photos: Iterable[str | os.PathLike[str] | Photo]) -> Iterator[Explanation]:
        """What `images` gives, batch by batch: for more photos than memory holds. `samples` count through all of them.

        Raises what `images` raises; for paths that cannot be opened before the first batch.
        """
        if isinstance(photos, (str, os.PathLike)) or (isinstance(photos, np.ndarray) and photos.ndim in (2, 3)):
            photos = [photos]
        photos = list(photos) if isinstance(photos, Iterable) else []
        if not photos:
            raise InputError(
                "Give a list of photos: paths, or arrays of uint8, RGB (height, width, 3) or grey (height, width)."
            )
        if self.preprocess is None:
            raise InputError("The model's image input is not known: give arrays, as explainer(array).")
        step = self._batch_size()
        if self.preprocess.size is None:
            step = 1  # photos of their own sizes do not stack
        targets = self._targets.rows(len(photos))
        names = [os.fspath(p) if isinstance(p, (str, os.PathLike)) else None for p in photos]
        stems = report.file_names(names)
        image.refuse_missing(filter(None, names))
        for start, stop in steps(len(photos), step):
            pictures = [image.photograph(p) for p in photos[start:stop]]
            batch = np.concatenate([self.preprocess.apply(p) for p in pictures])
            laid = [self.preprocess.fit(p.shape) for p in pictures]
            given = into_inputs(self._targets.given(start, stop), laid)
            part = self._explain(self._inputs.read(batch), targets[start:stop], start, given)
            part = replace(part, found=into_photos(part.found, [laid[s - start] for s in part.samples]))
            maps = [
                self.preprocess.restore(m, pictures[s - start].shape)
                for m, s in zip(part.maps, part.samples, strict=True)
            ]
            part = replace(part, maps=maps, photos=pictures, names=names[start:stop], stems=stems[start:stop])
            yield replace(part, first=start)
            del part, maps, pictures  # before the next batch is read
            if self.progress and len(photos) > 1:
                self.progress("photos", stop, len(photos))

    # ----- one batch -----
    def _explain(
        self, feeds: Mapping[str, Array], targets: list[list[int]], first: int, given: Mapping[str, Array]
    ) -> Explanation:
        """Rows for each sample, one per target; `first` numbers the first sample, `given` is what targets take."""
        if self._targets.goals:
            return self._aimed(feeds, first, given)
        wanted = np.array(targets, np.int64)
        outputs = self._run(feeds, wanted[:, 0])
        scores = totals(outputs[SCORE])
        classes = ranked(scores, wanted)
        columns = []
        for k in range(classes.shape[1]):
            if k and self.method.uses == "gradient" and not self._together:
                outputs = self._run(feeds, classes[:, k])
            own = column(outputs, k) if self._together else outputs
            columns.append(self._maps(feeds, own, classes[:, k], self.seed + first + k * _STRIDE))
        samples = np.repeat(np.arange(len(classes)), classes.shape[1])
        chosen = classes.reshape(-1)
        likely = probabilities(scores, self._score.activation)
        likely = None if likely is None else likely[samples, chosen]
        return self._rows(columns, outputs, samples + first, chosen, scores[samples, chosen], likely)

    def _aimed(self, feeds: Mapping[str, Array], first: int, given: Mapping[str, Array]) -> Explanation:
        """The same for targets that are written into the graph: rows for each sample, one per target."""
        outputs, count = self._run(feeds, given), len(self._targets.goals)
        found = {k.removeprefix(FOUND): v for k, v in outputs.items() if k.startswith((NUMBER, FOUND))}
        rows = {k: v if count > 1 else np.expand_dims(v, 1) for k, v in found.items()}
        refuse_lost(rows, self._targets.goals, given, first, self._score, outputs[SCORE].shape)
        columns = []
        for k in range(count):
            own = column(outputs, k) if count > 1 else outputs
            columns.append(self._maps(feeds, own, asked_again(given, rows, k), self.seed + first + k * _STRIDE))
        flat = {k: v.reshape(-1, *v.shape[2:]) for k, v in rows.items()}
        samples = np.repeat(np.arange(len(rows[NUMBER])), count)
        targets = flat.get("class", np.full(len(samples), -1.0)).astype(np.int64)
        scores, likely = flat.pop(NUMBER), flat.get("certainty")
        return self._rows(columns, outputs, samples + first, targets, scores, likely, flat)

    def _rows(
        self,
        columns: Sequence[tuple[dict[str, Floats], Floats]],
        outputs: Mapping[str, Array],
        samples: Ints,
        targets: Ints,
        scores: Floats,
        likely: Floats | None,
        found: dict[str, Array] | None = None,
    ) -> Explanation:
        """One row for each sample and target, from what `_maps` gave for each target."""
        raw = {name: beside([c[0][name] for c in columns]) for name in self.layers}
        return Explanation(
            maps=beside([c[1] for c in columns]),
            raw=raw,
            targets=targets,
            scores=scores,
            probabilities=likely,
            samples=samples,
            outputs={k: v for k, v in outputs.items() if not k.startswith("cam/")},
            layers=self.layers,
            warnings=warnings(raw, targets, scores, samples, self.labels),
            labels=self.labels,
            about=self._about(),
            found=found,
        )

    def _maps(
        self, feeds: Mapping[str, Array], outputs: Mapping[str, Array], classes: Ints | Sequence[Asked], seed: int
    ) -> tuple[dict[str, Floats], Floats]:
        """Raw maps of each layer and the finished ones, for one class per sample."""
        size = self._inputs.space(feeds)
        raw = {}
        for layer in self._layers:
            evidence = self._evidence(layer, feeds, outputs, classes, seed)
            raw[layer.name] = np.asarray(self.method(evidence, **self.options))
        clean = [np.nan_to_num(m, nan=0, posinf=0, neginf=0) for m in raw.values()]
        return raw, np.asarray(heatmap(clean, lambda m: resize(m, size)))

    def _evidence(
        self,
        layer: Layer,
        feeds: Mapping[str, Array],
        outputs: Mapping[str, Array],
        classes: Ints | Sequence[Asked],
        seed: int,
    ) -> Evidence:
        gradient, size = outputs.get(f"cam/gradient/{layer.name}"), self._inputs.space(feeds)
        return Evidence(
            activation=spatial(outputs[f"cam/activation/{layer.name}"], layer, size),
            gradient=None if gradient is None else spatial(gradient, layer, size),
            weights=self._heads[layer.name][np.asarray(classes)] if self._heads else None,
            size=size,
            rescore=Rescoring(
                self._inputs, self._run, feeds, classes, self._batch_size(), self._score.activation, self.progress
            ),
            seed=seed,
        )

    def _run(
        self, feeds: Mapping[str, Array], wanted: Ints | Mapping[str, Array], names: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Run the explainable model; a batch smaller than the model's fixed one is filled up and cut back."""
        given, count = dict(feeds), self._inputs.count(feeds)
        if isinstance(wanted, Mapping):
            given |= wanted
        elif self.method.uses == "gradient" and not self._together:
            given[TARGET] = np.asarray(wanted)
        fixed = self._inputs.samples or count
        if fixed > count:
            given = self._inputs.filled(given, fixed - count)
        outputs = self.session.run(self._inputs.given(given), names)
        return {
            k: v[:count] if isinstance(v, np.ndarray) and v.ndim and len(v) == fixed else v for k, v in outputs.items()
        }

    # ----- inputs and targets -----
    def _embedding(self, path: str, chosen: Plan, providers: str | Sequence[str]) -> Array:
        """What the model makes of a photo, as a reference."""
        if self.preprocess is None:
            raise InputError("The model's image input is not known: give the reference as an array in .npy.")
        model = extend(chosen, Recipe(("score",))).SerializeToString()
        x = self.preprocess.apply(image.read(path))
        feeds = self._inputs.read(np.repeat(x, self._inputs.samples or 1, axis=0))
        return np.asarray(Session(model, _folder(chosen), providers).run(self._inputs.given(feeds), [SCORE])[SCORE][0])

    def _batch_size(self) -> int:
        return self._inputs.samples or self.batch

    def _about(self) -> dict[str, object]:
        described = None if self.preprocess is None else self.preprocess.describe()
        told = self.target if isinstance(self.target, (str, int, type(None))) else str(self.target)
        return {"target": told, "method": self.method.name, "options": self.options, "layers": list(self.layers),
                "score": self.score, "provider": self.provider if self._session else None, "preprocess": described,
                "assumptions": list(getattr(self, "assumptions", []))}  # fmt: skip


def _folder(chosen: Plan) -> str:
    """Where the model's external data is, if it has any."""
    return os.path.abspath(chosen.source.folder) if chosen.source.external else ""
