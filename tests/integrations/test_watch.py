"""watch() on real PyTorch: what it records is what stands in the model, and the training does not notice."""

import copy
import gc
import io
import math
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tracker
from tests.shim.portable.recording import read_streams
from tracker import _tensor_histograms
from tracker.protocol import kinds


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in {"CONSOLE": "off", "DISABLE_CODE": "1", "DIR": str(tmp_path / "spool")}.items():
        monkeypatch.setenv("TRACKER_" + name, value)
    torch.manual_seed(0)
    yield tracker.init(project="watched")
    tracker.finish()


@pytest.fixture
def recorded(run: Any, tmp_path: Path) -> Callable[[], dict[tuple[str, int], Any]]:
    """Ends the run; returns the data of its VALUEs by name and step, each recorded once."""

    def read() -> dict[tuple[str, int], Any]:
        tracker.finish()
        values = [value for stream in read_streams(tmp_path / "spool") for value in stream.of(kinds.VALUE)]
        found = {(value.name, value.step): value.data for value in values}
        assert len(found) == len(values)
        return found

    return read


def small_model() -> nn.Module:
    return nn.Sequential(nn.Linear(30, 20), nn.Tanh(), nn.Linear(20, 3))


def backward(model: nn.Module, width: int = 30) -> None:
    model.zero_grad()
    model(torch.randn(8, width)).square().sum().backward()


def counted_by_torch(tensor: torch.Tensor) -> tuple[float, float, list[int]]:
    tensor = tensor.detach()
    least, greatest = tensor.min().item(), tensor.max().item()
    counts = torch.histc(tensor, bins=64, min=least, max=greatest)
    return least, greatest, [int(count) for count in counts]


def shown(data: dict[str, Any]) -> tuple[float, float, list[int]]:
    assert len(data["edges"]) == 65
    return data["edges"][0], data["edges"][-1], data["counts"]


def test_histograms_are_those_that_torch_counts_of_the_same_tensors(run: Any, recorded: Any) -> None:
    model = small_model()
    run.watch(model, log="all", log_freq=1)

    backward(model)
    expected = {f"parameters/{name}": counted_by_torch(each) for name, each in model.named_parameters()}
    expected |= {f"gradients/{name}": counted_by_torch(each.grad) for name, each in model.named_parameters()}

    assert {name: shown(data) for (name, _), data in recorded().items()} == expected


def test_edges_are_at_equal_distances_and_the_summary_has_the_last_histogram(run: Any, recorded: Any) -> None:
    model = small_model()
    run.watch(model, log="parameters", log_freq=1)

    backward(model)
    summary = run.summary["parameters/0.bias"]
    data = recorded()["parameters/0.bias", 0]

    bias = model[0].bias.detach()
    assert data["edges"] == pytest.approx(torch.linspace(bias.min(), bias.max(), 65).tolist(), rel=1e-5)
    assert {name: summary[name] for name in data} == data


@pytest.mark.parametrize(
    ("log", "kinds_found"),
    [
        ("gradients", {"gradients"}),
        ("parameters", {"parameters"}),
        ("all", {"gradients", "parameters"}),
        (None, set()),
    ],
)
def test_only_what_was_asked_for_is_recorded(
    run: Any, recorded: Any, log: Any, kinds_found: set[str]
) -> None:
    model = small_model()
    run.watch(model, log=log, log_freq=1)

    backward(model)

    assert {name.split("/")[0] for name, _ in recorded()} == kinds_found


def test_reports_come_at_every_log_freq_th_pass_at_the_step_of_the_log_around_them(
    run: Any, recorded: Any
) -> None:
    model = small_model()
    run.watch(model, log_freq=3)

    for _ in range(10):
        backward(model)
        run.log({"loss": 1.0})

    assert {step for _, step in recorded()} == {2, 5, 8}


def test_passes_without_a_report_run_the_counters_and_nothing_else(run: Any) -> None:
    model = nn.Sequential(*[nn.Linear(30, 30) for _ in range(20)])
    run.watch(model, log="all", log_freq=1000)
    calls: list[str] = []

    def profile(frame: Any, event: str, argument: object) -> None:
        if event == "call" and "tracker" in frame.f_globals.get("__name__", ""):
            calls.append(frame.f_code.co_qualname)

    sys.setprofile(profile)
    try:
        for _ in range(5):
            backward(model)
    finally:
        sys.setprofile(None)

    assert calls == ["_PassCounter.__call__"] * 20


def test_training_ends_in_the_same_bits_with_and_without(run: Any) -> None:
    def trained(watched: bool) -> list[bytes]:
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(30, 20), nn.Dropout(0.5), nn.Linear(20, 3))
        optimizer = torch.optim.AdamW(model.parameters())
        if watched:
            run.watch(model, log="all", log_freq=1)
        for _ in range(5):
            backward(model)
            optimizer.step()
        return [parameter.detach().numpy().tobytes() for parameter in model.parameters()]

    assert trained(watched=True) == trained(watched=False)


def test_a_watched_model_is_copied_pickled_and_saved_as_if_it_were_not(run: Any) -> None:
    model = small_model()
    attributes, state = set(vars(model[0])), set(model.state_dict())
    watched = run.watch(model, log="all", log_freq=1)[0]

    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)]
    for each in copies:
        backward(each)

    assert set(vars(model[0])) == attributes
    assert set(model.state_dict()) == state
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert watched.reports == 0


def test_a_watched_model_goes_when_its_user_lets_go_of_it(run: Any) -> None:
    model = small_model()
    run.watch(model, log="all", log_freq=1)
    backward(model)
    gone = weakref.ref(model)
    gone_parameter = weakref.ref(model[0].weight)

    gc.disable()
    try:
        del model
        assert gone() is None
        assert gone_parameter() is None
    finally:
        gc.enable()
    run.unwatch()


@pytest.mark.parametrize("way", ["model", "all", "finish", "remove"])
def test_nothing_stays_on_the_parameters_afterwards(run: Any, way: str) -> None:
    model, other = small_model(), small_model()
    watched, still_watched = run.watch([model, other], log_freq=1)

    if way == "model":
        run.unwatch(model)
        backward(other)
        assert still_watched.reports == 1
    elif way == "all":
        run.unwatch()
    elif way == "finish":
        tracker.finish()
    else:
        watched.end()
        watched.end()
    backward(model)

    assert watched.reports == 0
    assert not any(parameter._post_accumulate_grad_hooks for parameter in model.parameters())


def test_watching_again_replaces_how_a_model_was_watched(run: Any, recorded: Any) -> None:
    model = small_model()
    first = run.watch(model, log="all", log_freq=1)[0]
    second = run.watch(model, log="gradients", log_freq=2)[0]

    backward(model)
    backward(model)

    assert (first.reports, second.reports) == (0, 1)
    assert all(name.startswith(("gradients/0.", "gradients/2.")) for name, _ in recorded())


def test_later_models_carry_their_number(run: Any, recorded: Any) -> None:
    models = [nn.Linear(30, 3) for _ in range(4)]
    run.watch(models[:2], log_freq=1)
    run.watch(models[2], log_freq=1)
    run.watch(models[3], log_freq=1, idx=7)

    for model in models:
        backward(model)

    assert {name for name, _ in recorded() if name.endswith("bias")} == {
        "gradients/bias", "gradients/graph_1bias", "gradients/graph_2bias", "gradients/graph_7bias",
    }  # fmt: skip


def test_accumulated_gradients_are_those_the_optimizer_will_use(run: Any, recorded: Any) -> None:
    model = small_model()
    run.watch(model, log_freq=4)

    for _ in range(4):
        model(torch.randn(8, 30)).square().sum().backward()
    expected = counted_by_torch(model[0].weight.grad)

    assert shown(recorded()["gradients/0.weight", 0]) == expected


def test_a_shared_parameter_is_recorded_once(run: Any, recorded: Any) -> None:
    model = nn.Sequential(nn.Linear(30, 30, bias=False), nn.Linear(30, 30, bias=False))
    model[1].weight = model[0].weight
    run.watch(model, log="all", log_freq=1)

    backward(model)

    assert {name for name, _ in recorded()} == {"gradients/0.weight", "parameters/0.weight"}


def test_frozen_parameters_have_values_and_no_gradients(run: Any, recorded: Any) -> None:
    model = small_model()
    model[0].requires_grad_(False)
    run.watch(model, log="all", log_freq=1)

    backward(model)

    names = {name for name, _ in recorded()}
    assert "parameters/0.weight" in names
    assert "gradients/0.weight" not in names
    assert "gradients/2.weight" in names


def test_reports_go_on_when_some_layers_are_frozen_or_skipped_later(run: Any) -> None:
    model = nn.Sequential(*[nn.Linear(30, 30) for _ in range(8)])
    watched = run.watch(model, log_freq=2)[0]

    backward(model)
    model[0].requires_grad_(False)
    backward(model)
    model[1:4].requires_grad_(False)
    backward(model)
    backward(model[:7])
    backward(model)
    backward(model)

    assert watched.reports == 3


def test_a_model_converted_after_watch_is_still_watched(run: Any, recorded: Any) -> None:
    model = small_model()
    run.watch(model, log="all", log_freq=1)

    model.double()
    model.zero_grad()
    model(torch.randn(8, 30, dtype=torch.float64)).square().sum().backward()

    assert ("gradients/0.weight", 0) in recorded()


def test_a_pass_that_fails_costs_its_own_report_and_no_other(run: Any) -> None:
    model = small_model()
    watched = run.watch(model, log_freq=3)[0]
    fail = False

    def failing(gradient: torch.Tensor) -> None:
        if fail:
            raise ZeroDivisionError

    model[0].weight.register_hook(failing)
    for number in range(1, 10):
        fail = number == 3
        if fail:
            with pytest.raises(ZeroDivisionError):
                backward(model)
            assert watched.reports == 0
        else:
            backward(model)
            assert watched.reports == {1: 0, 2: 0}.get(number, (number - 1) // 3)


def test_lazy_modules_are_watched_from_before_their_first_input(run: Any, recorded: Any) -> None:
    model = nn.Sequential(nn.LazyLinear(20), nn.Linear(20, 3))
    run.watch(model, log="all", log_freq=1, log_graph=True)

    model(torch.randn(8, 30)).square().sum().backward()

    assert shown(recorded()["gradients/0.weight", 0]) == counted_by_torch(model[0].weight.grad)


@pytest.mark.parametrize("fullgraph", [False, True])
def test_compiled_models_are_watched_and_compiled_once(run: Any, recorded: Any, fullgraph: bool) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    model = small_model()
    run.watch(model, log="all", log_freq=2)  # before it is compiled
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, backend=counter, fullgraph=fullgraph)

    for _ in range(5):
        backward(compiled)
        run.log({"loss": 1.0})

    assert counter.frame_count == 1
    found = recorded()
    assert len({name for name, _ in found}) == 8
    assert {step for _, step in found} == {1, 3}


def test_a_compiled_module_itself_can_be_watched(run: Any, recorded: Any) -> None:
    compiled = torch.compile(small_model(), backend="aot_eager", fullgraph=True)
    run.watch(compiled, log_freq=1)

    backward(compiled)

    assert {name for name, _ in recorded()} >= {"gradients/_orig_mod.0.weight"}


def test_reentrant_checkpoints_do_not_hide_gradients(run: Any, recorded: Any) -> None:
    from torch.utils.checkpoint import checkpoint

    model = small_model()
    run.watch(model, log_freq=1)

    hidden = checkpoint(model[0], torch.randn(8, 30, requires_grad=True), use_reentrant=True)
    model[2](hidden.tanh()).square().sum().backward()

    assert {name for name, _ in recorded()} == {f"gradients/{n}" for n, _ in model.named_parameters()}


def test_the_graph_is_recorded_as_text(run: Any, recorded: Any) -> None:
    model = small_model()
    model[0].requires_grad_(False)
    run.watch(model, criterion=nn.MSELoss(), log=None, log_graph=True)

    text = recorded()["graph_0", 0]

    assert "(2): Linear(in_features=20, out_features=3" in text
    assert "criterion: MSELoss()" in text
    assert "parameters: 683, of which 63 are trained" in text


def test_a_report_that_breaks_is_one_warning_and_a_counted_loss(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small_model()
    run.watch(model, log_freq=1)

    def broken(*arguments: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("tracker._watch.count_values", broken)
    for _ in range(3):
        backward(model)

    assert run.lost == 3
    assert capsys.readouterr().err.count("watch failed: RuntimeError: out of memory") == 1


def test_what_is_no_module_is_refused_with_a_warning(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.watch(object()) == []
    assert run.watch([]) == []
    assert run.watch("model") == []
    assert run.watch([nn.Linear(1, 1), 3]) == []

    errors = capsys.readouterr().err
    for given in ("object", "an empty list", "str", "Linear, int"):
        assert f"watch() takes PyTorch modules, not {given}: nothing is watched" in errors


def test_odd_arguments_are_said_and_replaced(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_model()
    watched = run.watch(model, log="everything", log_freq=0)[0]
    backward(model)
    nothing = nn.Linear(3, 3).requires_grad_(False)
    run.watch(nothing)

    errors = capsys.readouterr().err
    assert watched.reports == 0
    assert "log='everything'" in errors
    assert "log_freq=0" in errors
    assert "no parameter of this model requires a gradient" in errors


def test_torch_is_not_imported_for_what_is_no_module(tmp_path: Path) -> None:
    program = (
        "import sys, tracker; run = tracker.init(project='p', dir=sys.argv[1]); "
        "assert run.watch(object()) == []; assert 'torch' not in sys.modules"
    )
    environment = {"TRACKER_CONSOLE": "off", "TRACKER_DISABLE_CODE": "1"}

    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env={**_environment(), **environment}, check=True
    )


# The counting itself: of host memory, and in the way of GPUs, which works there, too


@pytest.fixture(params=["directly", "as on a GPU"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "directly":
        monkeypatch.setattr(_tensor_histograms, "READ_DIRECTLY", ())
    return str(request.param)


def counted(tensor: torch.Tensor) -> Any:
    return _tensor_histograms.count_values(torch, {"x": tensor}).get("x")


def plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to(torch.float32)


ORDINARY = {
    "float32": torch.linspace(-3, 2, 1001),
    "float16": torch.linspace(-3, 2, 1001).half(),
    "bfloat16": torch.linspace(-3, 2, 1001).bfloat16(),
    "one value": torch.tensor(2.5).repeat(2).add(torch.tensor([0.0, 1.0])),
    "transposed": torch.linspace(-3, 2, 1000).reshape(20, 50).t(),
    "channels last": torch.linspace(-3, 2, 1024).reshape(2, 8, 8, 8).to(memory_format=torch.channels_last),
    "every other": torch.linspace(-3, 2, 1001)[::2],
    "expanded": torch.linspace(-3, 2, 11).expand(7, 11),
    "int8": torch.arange(-100, 100, dtype=torch.int8),
    "bool": torch.arange(10) > 3,
    "tiny": torch.linspace(-3e-30, 2e-30, 1001),
    "skewed": torch.cat([torch.zeros(1000), torch.tensor([1000.0])]),
}


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", ORDINARY)
@pytest.mark.parametrize("part_values", [2**22, 64])
def test_tensors_of_every_kind_are_counted_as_histc_does(
    name: str, part_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tensor_histograms, "PART_VALUES", part_values)
    tensor = ORDINARY[name]

    found = counted(tensor)

    assert (found.least, found.greatest, found.counts) == counted_by_torch(plain(tensor))
    assert found.not_finite == 0


def test_float64_keeps_its_precision(way: str) -> None:
    tensor = torch.linspace(0, 1e-9, 1001, dtype=torch.float64) + 1

    found = counted(tensor)

    assert (found.least, found.greatest) == (1.0, 1 + 1e-9)
    assert (found.least, found.greatest, found.counts) == counted_by_torch(tensor)


def test_values_that_are_not_finite_are_counted_apart(way: str) -> None:
    tensor = torch.linspace(-3, 2, 1001)
    odd = torch.cat([tensor, torch.tensor([math.nan, math.inf, -math.inf, math.nan])])

    found = counted(odd)

    assert (found.least, found.greatest, found.counts) == counted_by_torch(tensor)
    assert found.not_finite == 4


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nothing_finite_at_all_is_still_recorded(way: str, value: float) -> None:
    found = counted(torch.full((5,), value))

    assert found.counts == [0] * 64
    assert found.not_finite == 5
    assert found.least < found.greatest


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5, 1e-40, 1e30, -3e38])
def test_values_that_are_all_the_same_are_in_one_bin(way: str, value: float) -> None:
    found = counted(torch.full((5,), value))

    assert sorted(found.counts)[-2:] == [0, 5]
    assert found.not_finite == 0


def test_the_widest_range_does_not_overflow(way: str) -> None:
    found = counted(torch.tensor([-3.4e38, -1.0, 1.0, 3.4e38]))

    assert (found.counts[0], found.counts[32], found.counts[63]) == (1, 2 - found.counts[31], 1)
    assert sum(found.counts) == 4


def test_complex_numbers_are_counted_by_magnitude(way: str) -> None:
    tensor = torch.randn(500, dtype=torch.complex64)

    found = counted(tensor)

    assert (found.least, found.greatest, found.counts) == counted_by_torch(tensor.abs())


def test_zeros_that_a_sparse_tensor_implies_are_counted(way: str) -> None:
    dense = torch.zeros(100, 8)
    dense[[3, 50, 99]] = torch.randn(3, 8)
    sparse = dense.to_sparse()
    twice = torch.sparse_coo_tensor(
        torch.cat([sparse.indices(), sparse.indices()], 1), torch.cat([sparse.values() / 2] * 2), (100, 8)
    )

    for tensor in (sparse, twice, dense.to_sparse_csr()):
        found = counted(tensor)
        assert (found.least, found.greatest, found.counts) == counted_by_torch(dense)


def test_a_sparse_tensor_without_values_is_all_zeros(way: str) -> None:
    found = counted(torch.sparse_coo_tensor(torch.zeros(1, 0, dtype=torch.long), torch.zeros(0), (10,)))

    assert sum(found.counts) == 10


def test_sparse_gradients_of_an_embedding_are_recorded(run: Any, recorded: Any) -> None:
    model = nn.Embedding(100, 8, sparse=True)
    run.watch(model, log_freq=1)

    model(torch.tensor([1, 5, 5])).square().sum().backward()
    expected = counted_by_torch(model.weight.grad.to_dense())

    assert shown(recorded()["gradients/weight", 0]) == expected


def test_empty_tensors_have_no_histogram_and_strange_ones_are_named(
    run: Any, recorded: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    model = nn.Module()
    model.empty = nn.Parameter(torch.zeros(0, 3))
    model.weight = nn.Parameter(torch.randn(3))
    model.unmade = nn.Parameter(torch.empty(3, device="meta"))
    run.watch(model, log="all", log_freq=1)

    (model.weight.sum() + model.empty.sum()).backward()

    assert {name for name, _ in recorded()} == {"parameters/weight", "gradients/weight"}
    assert "watch() left out parameters/unmade (ValueError: it has no values)" in capsys.readouterr().err


def test_no_value_is_fetched_from_a_gpu_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tensor_histograms, "READ_DIRECTLY", ())
    from torch.utils._python_dispatch import TorchDispatchMode

    fetched = []

    class Fetches(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.ops.aten._local_scalar_dense.default:
                fetched.append(function)
            return function(*args, **(kwargs or {}))

    with Fetches():
        _tensor_histograms.count_values(torch, {str(n): torch.randn(100) for n in range(10)})

    assert not fetched


def _environment() -> dict[str, str]:
    import os

    return dict(os.environ)
