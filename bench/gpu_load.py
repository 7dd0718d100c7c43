"""Keeps a GPU busy until it is killed: with PyTorch where there is one, else with a small kernel of its own.

Prints one line, what it works with, as soon as the GPU is busy: "torch", "cuda", or "idle: why".
Needs the standard library alone, for it runs under whichever Python has PyTorch.
"""

import ctypes
import time

#: Each thread multiplies and adds for some milliseconds.
PTX = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry busy(.param .u64 result)
{
    .reg .pred %more;
    .reg .f32 %value;
    .reg .u32 %left;
    .reg .u64 %address;
    ld.param.u64 %address, [result];
    mov.f32 %value, 0f3F800001;
    mov.u32 %left, 4000000;
LOOP:
    fma.rn.f32 %value, %value, 0f3F7FFFFF, 0f33D6BF95;
    sub.u32 %left, %left, 1;
    setp.ne.u32 %more, %left, 0;
    @%more bra LOOP;
    cvta.to.global.u64 %address, %address;
    st.global.f32 [%address], %value;
    ret;
}
"""
BLOCKS = 1024
THREADS = 256


def main() -> None:
    """Load the first GPU, by the best means there is."""
    reasons = []
    for name, load in (("torch", torch_load), ("cuda", cuda_load)):
        try:
            load(name)
        except Exception as error:
            # Whatever it is, the next means may work.
            reasons.append(f"{name}: {type(error).__name__}: {error}")
    print("idle:", "; ".join(reasons).replace("\n", " "), flush=True)
    while True:
        time.sleep(3600)


def torch_load(name: str) -> None:
    """Multiply large matrices: tensor cores, memory and power all have work."""
    import torch  # type: ignore[import-not-found, unused-ignore]  # where a machine has it

    size = 8192 if torch.cuda.get_device_properties(0).total_memory > 16 << 30 else 2048
    left = torch.randn(size, size, device="cuda", dtype=torch.float16)
    right = torch.randn(size, size, device="cuda", dtype=torch.float16)
    host = torch.empty(64 << 20, dtype=torch.uint8, pin_memory=True)
    turn = 0
    while True:
        for _ in range(20):
            left @ right
        host.to("cuda", non_blocking=True)  # something for PCIe
        torch.cuda.synchronize()
        if not turn:
            print(name, flush=True)
        turn += 1


def cuda_load(name: str) -> None:
    """Run PTX through the driver's own library."""
    cuda = ctypes.CDLL("libcuda.so.1")

    def call(function: str, *arguments: object) -> None:
        status = getattr(cuda, function)(*arguments)
        if status:
            raise OSError(f"{function} answered {status}")

    device, context, module = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
    kernel, memory = ctypes.c_void_p(), ctypes.c_uint64()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(device), 0)
    call("cuCtxCreate_v2", ctypes.byref(context), 0, device)
    call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(PTX))
    call("cuModuleGetFunction", ctypes.byref(kernel), module, b"busy")
    call("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(1 << 20))
    parameters = (ctypes.c_void_p * 1)(ctypes.cast(ctypes.byref(memory), ctypes.c_void_p))
    turn = 0
    while True:
        call("cuLaunchKernel", kernel, BLOCKS, 1, 1, THREADS, 1, 1, 0, None, parameters, None)
        call("cuCtxSynchronize")
        if not turn:
            print(name, flush=True)
        turn += 1
