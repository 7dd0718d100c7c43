/* What the files of the stand-in for libnvidia-ml.so.1 share. Layouts follow the public nvml.h. */
#ifndef FAKE_NVML_H
#define FAKE_NVML_H

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, TIMED_OUT = 10, GPU_IS_LOST = 15, LIB_RM_VERSION_MISMATCH = 18,
    ARGUMENT_VERSION_MISMATCH = 25
};
enum { GPUS_MAX = 16, MIGS_MAX = 7, NO_MIG = -1, WHOLE_GPU = 0xFFFFFFFF };

/* A GPU (mig == NO_MIG) or one of the MIG devices on it. */
typedef struct { int index, mig; } device;

/* --- fake_nvml_scenario.c --- */

extern int open_count;

/* Returns the number behind a name in the scenario. */
long double scenario(const char *name, long double otherwise);
/* The same for "WHAT.gpu1.mig0" of a MIG device, else "WHAT.gpu1", else "WHAT". */
long double about(const char *what, const device *gpu, long double otherwise);
/* Returns seconds of the clock that never jumps, or those of the scenario. */
long double seconds(void);
/* Returns a counter that grows by "rate.NAME" each second, from "offset.NAME", and starts again after "bits.NAME" bits. */
unsigned long long counter(const char *name, const device *gpu, long double per_second, int bits);
/* Plays what befalls a call before it does anything: log, sleep, error. */
int enter(const char *function, const device *gpu);

/* The first line of each function: for calls without a device, about whole GPUs, about any device. */
#define ENTER(gpu) do { int error_ = enter(__func__, gpu); if (error_) return error_; } while (0)
#define ENTER_GPU(gpu) do { ENTER(gpu); if ((gpu)->mig != NO_MIG) return NOT_SUPPORTED; } while (0)

/* --- fake_nvml.c --- */

device *gpu_at(unsigned index);
device *mig_at(const device *gpu, unsigned index);
unsigned gpu_count(void);

#endif
