"""Stands in for amdsmi, the Python package of ROCm: answers what a file says, called FAKE_AMDSMI.

    {"gpus": [{function: answer, …}, …]}     an answer is what the function returns, or
    {"error": code}                          raises AmdSmiLibraryException, also for "amdsmi_init"
    {"hang": seconds}                        does not return for as long
    {"missing": true}                        the function does not exist in this version

The file is read at each call, so that a test can change it. What stands in no file is not supported (2).
"""

import enum
import json
import os
import time

LOG = os.environ.get("FAKE_AMDSMI_LOG")


class AmdSmiException(Exception):
    pass


class AmdSmiLibraryException(AmdSmiException):
    def __init__(self, err_code):
        super().__init__(err_code)
        self.err_code = err_code
        self.err_info = f"AMDSMI_STATUS_{err_code}"


class AmdSmiMemoryType(enum.IntEnum):
    VRAM = 0
    VIS_VRAM = 1
    GTT = 2


def _scene():
    with open(os.environ["FAKE_AMDSMI"]) as file:
        return json.load(file)


if _scene().get("import_error"):
    raise KeyError("libamd_smi.so: cannot open shared object file")


def _answer(scene, name):
    answer = scene.get(name, {"error": 2})
    if isinstance(answer, dict) and "hang" in answer:
        time.sleep(answer["hang"])
        answer = answer.get("then", {"error": 2})
    if isinstance(answer, dict) and "error" in answer:
        raise AmdSmiLibraryException(answer["error"])
    return answer


def _log(name):
    if LOG:
        with open(LOG, "a") as file:
            file.write(f"{os.getpid()} {name}\n")


def amdsmi_init():
    print("noise on the standard output", flush=True)
    _log("init")
    scene = _scene()
    if "amdsmi_init" in scene:
        _answer(scene, "amdsmi_init")


def amdsmi_shut_down():
    _log("shut_down")


def amdsmi_get_processor_handles():
    return list(range(len(_scene()["gpus"])))


def __getattr__(name):
    if not name.startswith("amdsmi_get_"):
        raise AttributeError(name)
    if any(gpu.get(name) == {"missing": True} for gpu in _scene()["gpus"]):
        raise AttributeError(name)

    def function(handle, *_):
        return _answer(_scene()["gpus"][handle], name)

    return function
