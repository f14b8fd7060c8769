"""Train tiny networks on digits with known places, and see whether each method's map has its maximum on the digit.

    scripts/pointing                    train, export, play; in the environment that it needs
    python scripts/pointing_game.py --only cnn --steps 200

Handwritten digits (scikit-learn's, 8×8) are pasted at random places and sizes on textures (scikit-image's grass,
gravel and brick), 32×32 pixels, beside scraps of other digits. A small CNN, a ViT with a class token and a ConvNeXt
learn which digit it is. Their files and the pictures of the test are `tests/golden/digits*`.

Then each method, with the layer that is chosen automatically, explains pictures that no network was trained on:

- **one**: pictures with one digit, and its class. A hit is a map whose largest value lies on the digit's box, or within
  2 pixels of it, half a cell of the grid.
- **two**: pictures with two different digits, each of them explained in turn: only a map that depends on the class can
  do better than half.

Only pictures on which the network is right count, for 'two' those where both digits are among its first two classes.
'chance' is the share of the picture that counts as a hit.
"""

import importlib.util
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
import zoo
from common import ROOT, arguments, markdown, select, versions, write_result
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as torch writes it

import onnxcam

SIDE, BATCH, MARGIN, PLAYED, KEPT = 32, 96, 2, 200, 24
TRAINED = 1500  # of the 1,797 digits; the others are for the game
EXPORTERS = {"cnn": "torchscript-17", "vit": "dynamo", "convnext": "dynamo"}
STEPS = {"cnn": 500, "vit": 2000, "convnext": 700}
GOLDEN = ROOT / "tests" / "golden"
SLOW = {"scorecam"}
Box = tuple[int, int, int, int]  # left, top, right, bottom


# ----- pictures -----
class Pictures:
    """Draws pictures with digits of one part of the data."""

    def __init__(self, seed: int, *, training: bool) -> None:
        """Read the digits and the textures."""
        digits = load_digits()
        part = slice(None, TRAINED) if training else slice(TRAINED, None)
        self.digits, self.labels = (digits.images[part] / 16).astype(np.float32), digits.target[part]
        spec = importlib.util.find_spec("skimage")
        folder = Path(spec.submodule_search_locations[0]) / "data"
        files = [str(folder / f"{name}.png") for name in ("grass", "gravel", "brick")]
        self.textures = [cv2.imread(file, cv2.IMREAD_GRAYSCALE) for file in files]
        self.rng = np.random.default_rng(seed)

    def background(self) -> np.ndarray:
        """Cut a piece out of a texture and tint it: float32 [SIDE, SIDE, 3] in 0..1."""
        texture = self.textures[self.rng.integers(len(self.textures))]
        y, x = (self.rng.integers(0, length - SIDE) for length in texture.shape)
        tint = self.rng.uniform(0.5, 1.0, 3)
        return (texture[y : y + SIDE, x : x + SIDE, None] / 255 * tint * 0.6).astype(np.float32)

    def paste(self, picture: np.ndarray, which: int, columns: tuple[int, int], *, scrap: bool = False) -> Box:
        """Draw a digit, or a quarter of one, somewhere between two columns."""
        side = int(self.rng.integers(12, 17))
        digit = self.digits[which]
        if scrap:
            digit = np.roll(digit, self.rng.integers(2, 6, 2), (0, 1))[:4, :4]
            side //= 2
        left = int(self.rng.integers(columns[0], columns[1] - side + 1))
        top = int(self.rng.integers(0, SIDE - side + 1))
        ink = np.clip(cv2.resize(digit, (side, side), interpolation=cv2.INTER_LINEAR), 0, 1)[..., None]
        area = picture[top : top + side, left : left + side]
        area[:] = area * (1 - ink) + ink * self.rng.uniform(0.8, 1.0, 3).astype(np.float32)
        return left, top, left + side, top + side

    def one(self) -> tuple[np.ndarray, list[int], list[Box]]:
        """Draw a picture with one digit and two scraps."""
        picture, which = self.background(), int(self.rng.integers(len(self.labels)))
        for _ in range(2):
            self.paste(picture, int(self.rng.integers(len(self.labels))), (0, SIDE), scrap=True)
        box = self.paste(picture, which, (0, SIDE))
        return picture, [int(self.labels[which])], [box]

    def two(self) -> tuple[np.ndarray, list[int], list[Box]]:
        """Draw a picture with two different digits, side by side."""
        picture = self.background()
        first, second = 0, 0
        while self.labels[first] == self.labels[second]:
            first, second = (int(each) for each in self.rng.integers(len(self.labels), size=2))
        boxes = [self.paste(picture, first, (0, SIDE // 2)), self.paste(picture, second, (SIDE // 2, SIDE))]
        return picture, [int(self.labels[first]), int(self.labels[second])], boxes


def tensor(pictures: list[np.ndarray]) -> np.ndarray:
    """Make the networks' input: float32 [N, 3, SIDE, SIDE] in −1..1."""
    return np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2)) * 2 - 1


# ----- networks, about 60,000 weights each -----
def cnn() -> nn.Module:
    """Stack six convolutions: a grid of 8×8, then a mean over places."""

    def block(before: int, after: int, stride: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())

    body = [block(3, 16, 1), block(16, 32, 2), block(32, 32, 1), block(32, 48, 2), block(48, 56, 1)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(56, 10))


class Block(nn.Module):
    """A transformer's block: norm, attention, norm, two linear layers."""

    def __init__(self, width: int, heads: int) -> None:
        """Make a block."""
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        """Map tokens [N, T, C] to tokens."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """A vision transformer with a class token, on patches of 4×4."""

    def __init__(self, width: int = 48, depth: int = 3, heads: int = 4) -> None:
        """Make it."""
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.position = nn.Parameter(torch.randn(1, 65, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x):
        """Compute logits [N, 10]."""
        patches = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), patches], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution, then channels last: norm and two linear layers, scaled."""

    def __init__(self, width: int) -> None:
        """Make a block."""
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x):
        """Map [N, C, H, W] to the same shape."""
        return x + (self.scale * self.mlp(self.norm(self.depthwise(x).permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """A ConvNeXt of one stage, on patches of 4×4."""

    def __init__(self, width: int = 48, depth: int = 3) -> None:
        """Make it."""
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, 4)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(width) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x):
        """Compute logits [N, 10]."""
        return self.head(self.norm(self.blocks(self.stem(x)).mean((2, 3))))


NETWORKS = {"cnn": cnn, "vit": ViT, "convnext": ConvNeXt}


class Named(nn.Module):
    """A network whose argument is called `x`, as the exporters want it."""

    def __init__(self, inner: nn.Module) -> None:
        """Wrap a network."""
        super().__init__()
        self.inner = inner

    def forward(self, x):
        """Run the network."""
        return self.inner(x)


def train(name: str, steps: int) -> tuple[nn.Module, float]:
    """Train a network; also its accuracy on digits that it has not seen."""
    torch.manual_seed(0)
    network, draw = NETWORKS[name](), Pictures(0, training=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for step in range(steps):
        pictures, labels = zip(*(draw.one()[:2] for _ in range(BATCH)), strict=True)
        loss = F.cross_entropy(network(torch.from_numpy(tensor(pictures))), torch.tensor(labels)[:, 0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 250 == 249:
            print(f"{name}, step {step + 1}: loss {loss.item():.2f}", flush=True)
    network.eval()
    unseen = Pictures(1, training=False)
    pictures, labels = zip(*(unseen.one()[:2] for _ in range(500)), strict=True)
    with torch.no_grad():
        right = network(torch.from_numpy(tensor(pictures))).argmax(1) == torch.tensor(labels)[:, 0]
    return network, right.float().mean().item()


def slim(path: Path) -> None:
    """Drop what the exporter notes about each node, half of such a small file."""
    model = onnx.load(path)
    for each in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del each.metadata_props[:]
        each.doc_string = ""
    onnx.save(model, path)


# ----- the game -----
def hit(heat: np.ndarray, box: Box) -> bool:
    """Tell whether the largest value lies on the box, or within MARGIN of it."""
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    left, top, right, bottom = box
    return bool(left - MARGIN <= x < right + MARGIN and top - MARGIN <= y < bottom + MARGIN and heat.max() > 0)


def share(box: Box) -> float:
    left, top, right, bottom = box
    width = min(right + MARGIN, SIDE) - max(left - MARGIN, 0)
    return width * (min(bottom + MARGIN, SIDE) - max(top - MARGIN, 0)) / SIDE**2


def questions(path: Path, digits: int) -> tuple[np.ndarray, list[int], list[Box]]:
    """Draw pictures, and keep those on which the network is right: inputs, classes and boxes, a row for each digit."""
    draw, explain = Pictures(2, training=False), onnxcam.Explainer(path, "gradcam", providers="cpu")
    inputs, classes, boxes = [], [], []
    while len(classes) < PLAYED:
        drawn = [draw.one() if digits == 1 else draw.two() for _ in range(64)]
        x = tensor([picture for picture, _, _ in drawn])
        logits = next(iter(explain(x).outputs.values()))
        for image, row, (_, labels, places) in zip(x, logits, drawn, strict=True):
            if set(np.argsort(row)[-digits:]) == set(labels):
                inputs += [image] * digits
                classes += labels
                boxes += places
    return np.stack(inputs[:PLAYED]), classes[:PLAYED], boxes[:PLAYED]


def play(path: Path, method: str, asked: tuple[np.ndarray, list[int], list[Box]]) -> float | None:
    """Compute the share of hits; None for a method that cannot explain this network."""
    inputs, classes, boxes = asked
    count = 60 if method in SLOW else len(classes)
    try:
        explainer = onnxcam.Explainer(path, method, target=classes[:count], providers="cpu")
        maps = explainer(inputs[:count]).maps
    except onnxcam.OnnxcamError as error:
        print(f"{path.stem}, {method}: {error}")
        return None
    return float(np.mean([hit(heat, box) for heat, box in zip(maps, boxes, strict=False)]))


def file_of(name: str) -> Path:
    return GOLDEN / f"digits-{name}.onnx"


def keep_pictures() -> None:
    """Write the pictures of the test: some that every network gets right."""
    arrays: dict[str, np.ndarray] = {}
    for digits, kind in ((1, "one"), (2, "two")):
        draw, rows = Pictures(3, training=False), []
        explainers = [onnxcam.Explainer(file_of(name), "eigencam", providers="cpu") for name in NETWORKS]
        while len(rows) < KEPT:
            picture, labels, boxes = draw.one() if digits == 1 else draw.two()
            picture = np.round(picture * 255).astype(np.uint8)
            x = tensor([picture.astype(np.float32) / 255])
            logits = [next(iter(each(x).outputs.values()))[0] for each in explainers]
            if all(set(np.argsort(row)[-digits:]) == set(labels) for row in logits):
                rows.append((picture, labels, boxes))
        for key, values in zip(("pictures", "classes", "boxes"), zip(*rows, strict=True), strict=True):
            arrays[f"{kind}/{key}"] = np.array(values, np.uint8)
    np.savez_compressed(GOLDEN / "digits.npz", **arrays)


def main() -> int:
    """Train and export what is missing, play, write the report."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, help="how long to train")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in select(NETWORKS, options.only):
        path = file_of(name)
        if options.fresh or not path.exists():
            network, accuracy = train(name, options.steps or STEPS[name])
            zoo.write(Named(network), torch.zeros(2, 3, SIDE, SIDE), EXPORTERS[name], path)
            slim(path)
            print(f"{name}: accuracy {accuracy:.3f}, {path.stat().st_size} bytes", flush=True)
    if not options.only and (options.fresh or not (GOLDEN / "digits.npz").exists()):
        keep_pictures()
    write_result("pointing", report(select(NETWORKS, options.only)))
    return 0


def accuracy_of(path: Path) -> float:
    """Measure a file's accuracy on digits that no network has seen."""
    draw = Pictures(1, training=False)
    pictures, labels = zip(*(draw.one()[:2] for _ in range(500)), strict=True)
    logits = next(iter(onnxcam.Explainer(path, "eigencam", providers="cpu")(tensor(list(pictures))).outputs.values()))
    return float((logits.argmax(1) == np.array(labels)[:, 0]).mean())


def report(names: list[str]) -> str:
    """Play all games and format the Markdown report."""
    about, columns = [], []
    for name in names:
        path = file_of(name)
        layer = onnxcam.inspect(path).layers[0]
        grid = "×".join(map(str, layer.grid))
        about.append([name, EXPORTERS[name], f"{accuracy_of(path):.2f}", f"`{layer.tensor}`", layer.layout, grid])
        for digits in (1, 2):
            asked = questions(path, digits)
            chance = float(np.mean([share(box) for box in asked[2]]))
            scores = [play(path, method, asked) for method in onnxcam.METHODS]
            columns.append(["" if score is None else f"{score:.2f}" for score in scores] + [f"{chance:.2f}"])
    rows = [[f"`{method}`", *cells] for method, *cells in zip([*onnxcam.METHODS, "chance"], *columns, strict=True)]
    header = ["method", *(f"{name}, {kind}" for name in names for kind in ("one", "two"))]
    used = versions("torch", "scikit-learn", "scikit-image", "onnx", "onnxruntime", "numpy")
    parts = ["# The pointing game", f"Made by `scripts/pointing` with {used}.", __doc__.partition("--steps 200\n\n")[2]]
    parts += [markdown(("network", "exporter", "accuracy", "layer", "layout", "grid"), about)]
    parts += [f"Share of hits, of {PLAYED} maps ({', '.join(sorted(SLOW))}: 60):", markdown(header, rows)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
