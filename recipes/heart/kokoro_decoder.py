"""Kokoro's decoder in bfloat16, compiled: three to four times as fast as onnxruntime's int8 graph.

Nine tenths of Kokoro's time goes into its decoder, whose convolutions onnxruntime runs as `ConvInteger`. Here the graph is cut
into three: the text encoder with the harmonic source, and the inverse STFT, stay in onnxruntime; the decoder between them is
dequantized and run by PyTorch. Only what lies between two convolutions is compiled, which takes a minute: the whole decoder, with lengths
that differ, was not compiled within ten.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper

SOURCE = "/decoder/decoder/generator/Concat_3_output_0"
"""Spectrum of the harmonic source, computed by onnxruntime: its phases need float32."""
SPECTRUM = "/decoder/decoder/generator/conv_post/Conv_output_0"
"""The decoder's output, from which the sound is made."""
STYLE, DURATIONS = "style", "/encoder/Clip_output_0"
NOT_COMPILED = ("Conv", "ConvTranspose", "MatMul", "Split", "Pad", "Resize")


def _producers(graph: Any) -> dict[str, Any]:
    return {name: node for node in graph.node for name in node.output}


def _initial_values(graph: Any) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in graph.initializer}


def _nodes_before(graph: Any, outputs: list[str], stop: Callable[[str], bool]) -> tuple[list[Any], set[str]]:
    """The nodes that `outputs` need, in order, and the tensors at which the search stopped."""
    producers, initial = _producers(graph), _initial_values(graph)
    wanted, found, border = list(outputs), set(), set()
    while wanted:
        name = wanted.pop()
        if not name or name in initial:
            continue
        if name not in producers or stop(name):
            border.add(name)
            continue
        node = producers[name]
        if id(node) not in found:
            found.add(id(node))
            wanted.extend(node.input)
    return [node for node in graph.node if id(node) in found], border


def _part(model: Any, inputs: set[str], outputs: list[str], shapes: dict[str, int]) -> bytes:
    """The part of a graph from `inputs` to `outputs` as a model of its own. shapes: rank of each new input."""
    graph = model.graph
    nodes, border = _nodes_before(graph, outputs, lambda name: name in inputs)
    own = {value.name: value for value in graph.input}
    values = [
        own.get(name) or onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * shapes[name])
        for name in sorted(border)
    ]
    used = {name for node in nodes for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    part = onnx.helper.make_graph(nodes, "part", values, [onnx.ValueInfoProto(name=name) for name in outputs], tensors)
    made = onnx.helper.make_model(part, opset_imports=model.opset_import)
    made.ir_version = model.ir_version
    out: bytes = made.SerializeToString()
    return out


def _dequantized(graph: Any) -> Iterator[tuple[str, str, list[Any], dict[str, Any]]]:
    """Of each integer product of the decoder: output, operation, [input name, weight, bias or None], attributes."""
    producers, initial = _producers(graph), _initial_values(graph)
    readers = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)

    def value(name: str) -> np.ndarray:
        return np.asarray(numpy_helper.to_array(initial[name]))

    for node in graph.node:
        if node.op_type not in ("ConvInteger", "MatMulInteger") or not node.name.startswith("/decoder"):
            continue
        quantize = producers[node.input[0]]  # DynamicQuantizeLinear: values, scale, zero point
        after, bias = readers[node.output[0]][0], None
        if after.op_type == "Add":
            name = after.name.removesuffix("_quantizedbias_add")
            bias = value(name).reshape(-1)
            after = readers[after.output[0]][0]
        (scaled,) = readers[after.output[0]]  # Cast, then Mul by both scales
        (scales,) = (name for name in scaled.input if name != after.output[0])
        (weight_scale,) = (name for name in producers[scales].input if name != quantize.output[1])
        weight = value(node.input[1]).astype(np.float32)
        zero, scale = value(node.input[3]).astype(np.float32), value(weight_scale)
        if node.op_type == "ConvInteger" and scale.size > 1:
            zero, scale = (
                part.reshape(-1, *[1] * (weight.ndim - 1)) if part.size > 1 else part for part in (zero, scale)
            )
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        operation = node.op_type.removesuffix("Integer")
        yield scaled.output[0], operation, [quantize.input[0], (weight - zero) * scale, bias], attributes


def _apply(operation: str, values: list[Any], attributes: dict[str, Any]) -> Any:
    """One operation of the graph, except those with weights and `Split`."""
    x = values[0]
    if operation in ("Add", "Sub", "Mul", "Div"):
        return getattr(operator, "truediv" if operation == "Div" else operation.lower())(x, values[1])
    if operation == "Pow":  # by 2 only
        return x * x
    if operation == "ReduceMean":
        return x.float().mean(list(values[1]), keepdim=True)
    if operation in ("Sqrt", "Sin"):
        return getattr(torch, operation.lower())(x)
    if operation == "LeakyRelu":
        return F.leaky_relu(x, attributes.get("alpha", 0.01))
    if operation == "MatMul":
        return x @ values[1]
    if operation == "Unsqueeze":
        return x.unsqueeze(values[1][0])
    if operation == "Concat":
        return torch.cat([part.float() for part in values], attributes["axis"])
    if operation == "Resize":  # nearest, by 2
        return x.repeat_interleave(2, -1)
    if operation == "Pad":
        pads, mode = values[1], attributes.get("mode", b"constant").decode()
        return F.pad(x.float(), (pads[len(pads) // 2 - 1], pads[-1]), mode=mode)
    raise ValueError(f"Kokoro's decoder has an operation that is not supported: {operation}")


@dataclass(frozen=True)
class Tensor:
    """A tensor inside of a segment, by number."""

    number: int


def _function(body: tuple[Any, ...], inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Callable[..., Any]:
    """The operations of a segment as a function of its input tensors."""

    def run(*tensors: torch.Tensor) -> list[torch.Tensor]:
        values: dict[int, Any] = dict(zip(inputs, tensors, strict=True))
        for operation, sources, output, attributes in body:
            given = [values[source.number] if isinstance(source, Tensor) else source for source in sources]
            values[output] = _apply(operation, given, dict(attributes))
        return [values[number] for number in outputs]

    return run


@dataclass(frozen=True)
class Segment:
    """Operations that run one after the other: compiled, from the tensors `inputs` to `outputs`, or one by one."""

    operations: list[int]
    compiled: Callable[..., Any] | None = None
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


class Decoder:
    """Encoder outputs -> spectrum. A list of operations of the graph, with weights in bfloat16 where they are large."""

    def __init__(self, model: Any) -> None:
        graph = model.graph
        products = {out: rest for out, *rest in _dequantized(graph)}
        producers, initial = _producers(graph), _initial_values(graph)
        self.inputs: set[str] = set()
        self.constants: dict[str, torch.Tensor] = {}
        self.operations: list[tuple[str, list[str], list[str], dict[str, Any]]] = []
        order = {id(node): number for number, node in enumerate(graph.node)}
        wanted, found = [SPECTRUM], {}
        while wanted:
            name = wanted.pop()
            if not name or name in self.constants or name in self.inputs:
                continue
            if name in initial:
                self.constants[name] = torch.from_numpy(numpy_helper.to_array(initial[name]).copy())
                continue
            node = producers.get(name)
            if node is None or name == SOURCE or node.name.lstrip("/").startswith("encoder"):
                self.inputs.add(name)
                continue
            if id(node) in found:
                continue
            if name in products:
                operation, (source, weight, bias), attributes = products[name]
                names = [source, name + " weight"]
                self.constants[names[1]] = torch.from_numpy(np.ascontiguousarray(weight, np.float32))
                if bias is not None:
                    names.append(name + " bias")
                    self.constants[names[2]] = torch.from_numpy(bias.astype(np.float32))
            else:
                operation, names = node.op_type, list(node.input)
                attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            found[id(node)] = (operation, names, list(node.output), attributes)
            wanted.extend(names)
        self.operations = [found[key] for key in sorted(found, key=order.__getitem__)]
        for operation, names, _, _ in self.operations:
            if operation in ("Conv", "ConvTranspose"):
                weight = self.constants[names[1]].to(torch.bfloat16)
                self.constants[names[1]] = weight[:, :, None].contiguous(memory_format=torch.channels_last)
                for bias_name in names[2:]:
                    self.constants[bias_name] = self.constants[bias_name].to(torch.bfloat16)
        self._scalars = {n: c.item() for n, c in self.constants.items() if c.numel() == 1 and c.is_floating_point()}
        self._integers = {n: c.tolist() for n, c in self.constants.items() if not c.is_floating_point()}
        self._segments = self._in_segments()

    def _in_order(self) -> Iterator[list[int]]:
        """The operations' numbers in groups, in an order in which they can run.

        The first group needs the style only. The others are in depth-first order, so that what lies between two convolutions of one
        branch of the graph is one group; a convolution is a group of its own.
        """
        made = {name: number for number, (_, _, outputs, _) in enumerate(self.operations) for name in outputs}
        early: dict[int, None] = {}
        for number, (_, names, _, _) in enumerate(self.operations):
            if all(name in self.constants or name == STYLE or made.get(name) in early for name in names if name):
                early[number] = None
        yield list(early)
        seen, stack, group = set(early), [(made[SPECTRUM], False)], list[int]()
        while stack:
            number, ready = stack.pop()
            if not ready and number not in seen:
                seen.add(number)
                stack.append((number, True))
                stack += [(made[name], False) for name in reversed(self.operations[number][1]) if name in made]
            elif ready and self.operations[number][0] in NOT_COMPILED:
                if group:
                    yield group
                yield [number]
                group = []
            elif ready:
                group.append(number)
        yield group

    def _in_segments(self) -> list[Segment]:
        """Each group of `_in_order` as a segment; those of the same structure share one compiled function."""
        groups = [group for group in self._in_order() if group]
        readers: dict[str, set[int]] = defaultdict(set)
        for place, group in enumerate(groups):
            for number in group:
                for name in self.operations[number][1]:
                    readers[name].add(place)
        compiled: dict[Any, Callable[..., Any]] = {}
        segments = []
        for place, group in enumerate(groups):
            if place == 0 or self.operations[group[0]][0] in NOT_COMPILED:
                segments.append(Segment(group))
                continue
            index: dict[str, int] = {}  # tensors by number, so that segments of the same structure are equal
            body = []
            for number in group:
                operation, names, (output,), attributes = self.operations[number]
                sources = tuple(self._literal(name, index) for name in names)
                index[output] = len(index)
                body.append((operation, sources, index[output], tuple(sorted(attributes.items()))))
            outputs = [self.operations[n][2][0] for n in group]
            inputs = [name for name in index if name not in outputs]
            outputs = [name for name in outputs if name == SPECTRUM or readers[name] - {place}]
            key = (tuple(body), tuple(index[name] for name in inputs), tuple(index[name] for name in outputs))
            if key not in compiled:
                compiled[key] = torch.compile(_function(*key), dynamic=True)
            segments.append(Segment(group, compiled[key], inputs, outputs))
        return segments

    def _literal(self, name: str, index: dict[str, int]) -> Any:
        """A constant's value if it is a number or integers, else `Tensor` with the tensor's number in `index`."""
        if name in self._scalars:
            return self._scalars[name]
        return tuple(self._integers[name]) if name in self._integers else Tensor(index.setdefault(name, len(index)))

    def __call__(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """The tensors named by `self.inputs` -> (1, 22, frames)."""
        values: dict[str, Any] = dict(inputs)

        def get(name: str) -> Any:
            for known in (values, self._scalars, self._integers):
                if name in known:
                    return known[name]
            return self.constants[name]

        for segment in self._segments:
            if segment.compiled is not None:
                made = segment.compiled(*map(get, segment.inputs))
                values.update(zip(segment.outputs, made, strict=True))
                continue
            for number in segment.operations:
                operation, names, outputs, attributes = self.operations[number]
                given = [get(name) for name in names if name]
                if operation == "Split":
                    sizes = given[1] if len(given) > 1 else given[0].shape[attributes.get("axis", 0)] // len(outputs)
                    values.update(zip(outputs, torch.split(given[0], sizes, attributes.get("axis", 0)), strict=True))
                elif operation in ("Conv", "ConvTranspose"):
                    values[outputs[0]] = self._convolution(operation, given[0], names, attributes)
                else:
                    values[outputs[0]] = _apply(operation, given, attributes)
        spectrum: torch.Tensor = values[SPECTRUM].float()
        return spectrum

    def _convolution(
        self, operation: str, x: torch.Tensor, names: list[str], attributes: dict[str, Any]
    ) -> torch.Tensor:
        """As a two-dimensional one of height 1, whose channels-last layout the fastest kernels take."""
        weight, bias = self.constants[names[1]], self.constants[names[2]] if len(names) > 2 else None
        wide = x.to(torch.bfloat16).unsqueeze(2)
        stride, padding = (1, attributes.get("strides", [1])[0]), (0, attributes.get("pads", [0])[0])
        groups, dilation = attributes.get("group", 1), (1, attributes.get("dilations", [1])[0])
        if operation == "Conv":
            return F.conv2d(wide, weight, bias, stride, padding, dilation, groups).squeeze(2)
        extra = (0, attributes.get("output_padding", [0])[0])
        return F.conv_transpose2d(wide, weight, bias, stride, padding, extra, groups, dilation).squeeze(2)


class FastKokoro:
    """Runs the graph like an onnxruntime session: (tokens, style, speed) -> samples and durations."""

    def __init__(self, path: str, session: Callable[[bytes], Any]) -> None:
        """session: Makes an onnxruntime session of a serialized graph."""
        model = onnx.load(path)
        decoder = Decoder(model)
        self._names = [*sorted(decoder.inputs - {STYLE}), DURATIONS]
        ranks = {SPECTRUM: 3}
        self._encoder = session(_part(model, set(), self._names, ranks))
        self._vocoder = session(_part(model, {SPECTRUM}, [model.graph.output[0].name], ranks))
        torch.set_num_threads(1)
        torch._dynamo.config.cache_size_limit = 64
        self._decoder = decoder

    def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        made = dict(zip(self._names, self._encoder.run(None, inputs), strict=True))
        durations = made.pop(DURATIONS)
        made[STYLE] = inputs[STYLE]
        with torch.no_grad():
            spectrum = self._decoder({name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in made.items()})
        return [self._vocoder.run(None, {SPECTRUM: spectrum.numpy()})[0], durations]
