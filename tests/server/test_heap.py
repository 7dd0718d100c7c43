import subprocess
import sys

THREADS = """
import ctypes, sys, threading
from tracker_server.heap import bound_heap

if "bound" in sys.argv:
    assert bound_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
ready = threading.Barrier(8)

def allocate():
    ready.wait()
    libc.malloc(1000)
    ready.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.fopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, out)
libc.fclose(out)
"""


def heaps(*arguments: str) -> int:
    answer = subprocess.run(
        [sys.executable, "-c", THREADS, *arguments], capture_output=True, text=True, check=True
    )
    return answer.stdout.count("<heap nr=")


def test_threads_share_two_heaps() -> None:
    assert heaps() > 2
    assert heaps("bound") == 2
