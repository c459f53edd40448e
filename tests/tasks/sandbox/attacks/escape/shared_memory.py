"""Makes POSIX shared memory, which outlives the process."""
# works at: bare process
from multiprocessing import shared_memory


def attack():
    block = shared_memory.SharedMemory(create=True, size=64)
    block.close()
    block.unlink()
    return block.name
