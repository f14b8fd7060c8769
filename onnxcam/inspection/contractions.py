"""Roles of axes through products: linear layers, attention written out or as one operator, einsum, recurrence."""

from onnxcam.inspection.follow import Call, Link, Trace, rule
from onnxcam.inspection.roles import Axis, Channel, Roles, best, filled


@rule("MatMul", "Gemm", "MatMulNBits", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "Dense")
def _matmul(call: Call) -> Trace | None:
    """Rows run along the first operand, columns along the second; what is summed over ends there."""
    a, b = (0, 3) if call.node.op.startswith("QLinear") else (0, 1)
    rank = len(call.shape)
    if call.roles[a] is None and call.roles[b] is None:
        return None
    rows, columns = len(call.shapes[a] or ()), len(call.shapes[b] or ())
    if call.moving[a] and call.roles[a] is None and rows > 1:
        return None
    if call.moving[b] and call.roles[b] is None and columns > 1:
        return None
    turned = [bool(call.attribute(name, 0)) for name in ("transA", "transB")]
    found: list[tuple[Axis, tuple[Link, ...]]] = []
    lead = rank - (rows > 1) - (columns > 1)
    for i in range(lead):
        over = [(k, i - lead + n - 2) for k, n in ((a, rows), (b, columns)) if i - lead + n - 2 >= 0]
        found.append(_over(call, over, i))
    if rows > 1:
        found.append(_over(call, [(a, rows - 1 if turned[0] else rows - 2)], len(found)))
    if columns > 1 or call.node.op == "MatMulNBits":
        found.append(_over(call, [(b, columns - 2 if turned[1] else columns - 1)], rank - 1))
    return Trace(tuple(axis for axis, _ in found), tuple(links for _, links in found))


def _over(call: Call, links: list[Link], axis: int) -> tuple[Axis, tuple[Link, ...]]:
    """An axis of the output that runs along these axes of the inputs; new channels where those are weights'."""
    known = [(k, i) for k, i in links if call.roles[k] is not None and (call.shapes[k] or ())[i] != 1]
    role = best(call.axis(k, i) for k, i in known)
    return role or filled((), call.shape[axis]), tuple(known)


@rule("Attention", "MultiHeadAttention", "GroupQueryAttention", "PackedMultiHeadAttention")
def _attention(call: Call) -> Trace | None:
    """Along the queries; whatever is attended to is mixed."""
    own = call.roles[0]
    if own is None or call.index or len(own) != len(call.shape):
        return None
    whole = call.node.domain and call.node.op == "Attention"  # its one input is query, key and value
    roles: Roles = (*own[:-1], (Channel(call.shape[-1]),))
    links: list[tuple[Link, ...]] = [() if whole and i else ((0, i),) for i in range(len(own) - 1)]
    return Trace(roles, (*links, ()))


@rule("Einsum")
def _einsum(call: Call) -> Trace | None:
    equation = call.node.attributes.get("equation", b"")
    text = (equation.decode() if isinstance(equation, bytes) else str(equation)).replace(" ", "")
    if "->" not in text or "..." in text:
        return None
    terms, result = text.split("->")
    where = {letter: [(k, t.index(letter)) for k, t in enumerate(terms.split(",")) if letter in t] for letter in result}
    if any(moves and own is None for moves, own in zip(call.moving, call.roles, strict=True)):
        return None
    found = [_over(call, where[letter], i) for i, letter in enumerate(result)]
    return Trace(tuple(axis for axis, _ in found), tuple(links for _, links in found))


@rule("LSTM", "GRU", "RNN")
def _recurrent(call: Call) -> Trace | None:
    """X (steps, samples, features) to Y (steps, directions, samples, hidden), or the last state of each direction."""
    own = call.roles[0]
    if own is None or call.attribute("layout", 0):
        return None
    if call.index:
        return Trace(((), own[1], (Channel(call.shape[-1]),)), ((), ((0, 1),), ()))
    sides = filled((), call.shape[1])
    return Trace((own[0], sides, own[1], (Channel(call.shape[-1]),)), (((0, 0),), (), ((0, 1),), ()))
