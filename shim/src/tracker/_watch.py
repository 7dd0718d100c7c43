"""watch(): histograms of a PyTorch model's gradients and parameters, every so many backward passes.

Between two reports nothing runs but a counter: a few of the parameters carry a hook that counts the
backward passes in which they received a gradient. When a report is due, all parameters are read at the end
of that pass, on their own device, with one transfer for all of them (_tensor_histograms.py).
The module itself is not touched: no forward hooks, no attributes, nothing in its state.
"""

import sys
import weakref
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from ._run_state import RunState
from ._tensor_histograms import Counted, Refused, count_values
from .protocol.bodies import Value
from .protocol.kinds import VALUE

#: So many parameters of a model count passes, spread over it: some of them may be frozen later,
#: or belong to a branch that is seldom taken.
COUNTING_PARAMETERS = 4
LOG_FREQ = 1000
#: The longest description of a model that is recorded.
DESCRIPTION_CHARACTERS_MAX = 64 * 1024
_KINDS = {"gradients": (True, False), "parameters": (False, True), "all": (True, True), None: (False, False)}


def watch(
    run: RunState,
    models: Any,
    criterion: Any = None,
    log: Optional[str] = "gradients",
    log_freq: int = LOG_FREQ,
    idx: Optional[int] = None,
    log_graph: bool = False,
) -> "List[Watch]":
    """Record histograms of one or several models from now on, at every log_freq-th backward pass.

    log: "gradients", "parameters", "all" or None. The first model's metrics are called gradients/<name>,
    those of later ones gradients/graph_<number><name>, counted from idx. Watching a model again replaces
    how it was watched before.
    """
    torch = sys.modules.get("torch")
    given = list(models) if isinstance(models, (list, tuple)) else [models]
    if torch is None or not given or not all(isinstance(model, torch.nn.Module) for model in given):
        kinds = ", ".join(sorted({type(model).__name__ for model in given})) or "an empty list"
        run.terminal.warn("watch", "watch() takes PyTorch modules, not %s: nothing is watched" % kinds)
        return []
    if log not in _KINDS:
        run.terminal.warn(
            "watch-log",
            'watch(log=%r): it is "gradients", "parameters", "all" or None; "gradients" is used' % (log,),
        )
        log = "gradients"
    every = _every(run, log_freq)
    made: List[Watch] = []
    for model in given:
        if any(type(each).__name__ == "FullyShardedDataParallel" for each in model.modules()):
            run.terminal.warn(
                "watch-fsdp",
                "watch() sees no gradients under FullyShardedDataParallel, which puts others in the place of "
                "a model's parameters: nothing is watched. With fully_shard() it does",
            )
            continue
        watches = _watches_of(run)
        number = watches.number_for(model) if idx is None else int(idx) + len(made)
        unwatch(run, model)
        watched = Watch(run, model, number, _KINDS[log], every)
        watches.add(watched)
        made.append(watched)
        if log is not None and not watched.begin(torch):
            run.terminal.warn(
                "watch-nothing", "watch(): no parameter of this model requires a gradient: nothing to watch"
            )
        if log_graph:
            _record_value(run, run.step, "graph_%d" % number, "text", describe(model, criterion))
    return made


def unwatch(run: RunState, models: Any = None) -> None:
    """Stop watching these models, or all."""
    given = list(models) if isinstance(models, (list, tuple)) else [models]
    watches = _watches_of(run)
    for watched in list(watches.all):
        model = watched.model()
        if models is None or model is None or any(model is each for each in given):
            watched.end()
            watches.all.remove(watched)


def describe(model: Any, criterion: Any = None) -> str:
    """Return a model's modules as a tree, and how many parameters they have."""
    parameters = list(model.parameters())
    total = sum(_size(parameter) for parameter in parameters)
    trained = sum(_size(parameter) for parameter in parameters if parameter.requires_grad)
    text = repr(model)[:DESCRIPTION_CHARACTERS_MAX]
    if criterion is not None:
        text += "\ncriterion: " + repr(criterion)[:DESCRIPTION_CHARACTERS_MAX]
    return "%s\nparameters: %d, of which %d are trained" % (text, total, trained)


class Watch:
    """One model that is being watched. Does not keep the model alive."""

    def __init__(self, run: RunState, model: Any, number: int, what: Tuple[bool, bool], every: int) -> None:
        """what: whether to report gradients, and parameters. every: passes from one report to the next."""
        self.model: Callable[[], Any] = weakref.ref(model)
        self.number = number
        self.reports = 0
        self._run = run
        self._prefix = "graph_%d" % number if number else ""
        self._gradients, self._parameters = what
        self._every = every
        self._counters: List[_PassCounter] = []
        self._handles: List[Any] = []
        self._report_due = False
        self._torch: Any = None

    def begin(self, torch: Any) -> bool:
        """Attach the counters. Return False where no parameter can ever receive a gradient."""
        self._torch = torch
        trained = [
            parameter
            for parameter in self.model().parameters()
            # Those of lazy modules are made, and may carry hooks, from their first input on.
            if parameter.requires_grad and not hasattr(parameter, "materialize")
        ]
        for parameter in _spread(trained, COUNTING_PARAMETERS):
            counter = _PassCounter(self, self._every)
            # Called for parameters sharded by fully_shard(), too; before PyTorch 2.1 there is only the other.
            register = getattr(parameter, "register_post_accumulate_grad_hook", parameter.register_hook)
            self._handles.append(register(counter))
            self._counters.append(counter)
        return bool(self._counters)

    def end(self) -> None:
        """Take the counters off. May be called twice."""
        handles, self._handles = self._handles, []
        self._counters = []
        for handle in handles:
            handle.remove()

    def due(self, late: bool) -> None:
        """Have this pass reported at its end. late: an earlier one was due, and failed midway."""
        if self._report_due and not late:
            return  # another counter of the same pass came first
        self._report_due = True
        try:
            self._at_end_of_pass(self._at_last)
        except RuntimeError:  # not within a pass: the hook was called by hand
            self._report()

    def _at_last(self) -> None:
        # DistributedDataParallel and fully_shard() have the gradients ready in callbacks of the same
        # kind, which were queued during the pass: one that is queued now comes after them.
        try:
            self._at_end_of_pass(self._report)
        except RuntimeError:
            self._report()

    def _at_end_of_pass(self, function: Callable[[], None]) -> None:
        self._torch.autograd.Variable._execution_engine.queue_callback(function)  # noqa: SLF001 - as DDP does

    def _report(self) -> None:
        """Record what all parameters and gradients are now. Never raises: a backward pass is under way."""
        try:
            if not self._report_due:
                return
            self._report_due = False
            for counter in self._counters:
                counter.passes = 0
            model = self.model()
            if model is not None and self._counters and not _being_captured(self._torch, model):
                self._record(count_values(self._torch, dict(self._tensors(model))))
                self.reports += 1
        except Exception as error:  # noqa: BLE001 - the guard
            self._run._guard("watch", error)  # noqa: SLF001

    def _tensors(self, model: Any) -> Iterator[Tuple[str, Any]]:
        for name, parameter in model.named_parameters():
            if self._parameters:
                yield "parameters/" + self._prefix + name, parameter
            if self._gradients and parameter.grad is not None:
                yield "gradients/" + self._prefix + name, parameter.grad

    def _record(self, counted: "Dict[str, Any]") -> None:
        run = self._run
        step = run.step
        shown = {}
        refused = []
        for name, found in counted.items():
            if isinstance(found, Refused):
                refused.append("%s (%s)" % (name, found.reason))
                continue
            data = histogram(found)
            _record_value(run, step, name, "histogram", data)
            shown[name] = dict(data, _type="histogram")
        run.summary.logged(shown)
        if refused:
            run.terminal.warn("watch-value", "watch() left out " + ", ".join(refused))


class _PassCounter:
    """Hook of one parameter: counts the passes in which that received a gradient."""

    __slots__ = ("_every", "_watch", "passes")

    #: PyTorch warns of hooks that are lost where a tensor is sent to another process; this one may be.
    __torch_unserialize__ = True

    def __init__(self, watched: Watch, every: int) -> None:
        self.passes = 0
        self._every = every
        self._watch = watched

    def __call__(self, tensor: Any) -> None:  # noqa: ARG002 - a hook
        self.passes += 1
        if self.passes >= self._every:
            self._watch.due(self.passes > self._every)


def histogram(counted: Counted) -> Dict[str, Any]:
    """Return the data of a VALUE "histogram": edges and counts, and how many values are not finite."""
    width = (counted.greatest - counted.least) / len(counted.counts)
    edges = [counted.least + number * width for number in range(len(counted.counts))]
    data: Dict[str, Any] = {"edges": edges + [counted.greatest], "counts": counted.counts}
    if counted.not_finite:
        data["not_finite"] = counted.not_finite
    return data


def _record_value(run: RunState, step: int, name: str, kind: str, data: Any) -> None:
    run.record(VALUE, lambda recorder: Value(recorder.time(), step, name, kind, data).encode(), "watch")


class _Watches:
    """What is watched in one run, and which number the next model gets."""

    def __init__(self) -> None:
        self.all: List[Watch] = []
        self._next = 0

    def number_for(self, model: Any) -> int:
        """Return the number a model has, or the next."""
        for watched in self.all:
            if watched.model() is model:
                return watched.number
        return self._next

    def add(self, watched: Watch) -> None:
        self.all.append(watched)
        self._next = max(self._next, watched.number + 1)


def _watches_of(run: RunState) -> _Watches:
    watches: Optional[_Watches] = vars(run).get("_watches")
    if watches is None:
        watches = vars(run)["_watches"] = _Watches()
        run.at_end(lambda code: unwatch(run))
    return watches


def _every(run: RunState, log_freq: Any) -> int:
    try:
        every = int(log_freq)
    except (TypeError, ValueError):
        every = 0
    if every < 1:
        run.terminal.warn(
            "watch-freq", "watch(log_freq=%r): it is a whole number from 1; %d is used" % (log_freq, LOG_FREQ)
        )
        return LOG_FREQ
    return every


def _spread(found: List[Any], most: int) -> List[Any]:
    """Return at most so many of them, the first and the last among them."""
    if len(found) <= most:
        return found
    return [found[number * (len(found) - 1) // (most - 1)] for number in range(most)]


def _being_captured(torch: Any, model: Any) -> bool:
    """Return whether a CUDA graph is being captured, which any transfer would spoil."""
    on_gpu = any(parameter.is_cuda for parameter in model.parameters())
    return on_gpu and bool(getattr(torch.cuda, "is_current_stream_capturing", bool)())


def _size(parameter: Any) -> int:
    try:
        return int(parameter.numel())
    except (RuntimeError, ValueError):  # of a lazy module that has not seen its first input
        return 0
