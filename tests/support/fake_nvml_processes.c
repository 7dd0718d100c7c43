/* Processes on a GPU: "processes.gpu0 2" of them, with pid.gpu0.0 and process_memory.gpu0.0 (-1: not to be had). */
#include "fake_nvml.h"

#include <time.h>

typedef struct { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; } process_v3;
typedef struct { unsigned pid; unsigned long long timestamp_us; unsigned sm, memory, encoder, decoder; } use;
typedef struct { unsigned long long timestamp_us; unsigned pid, sm, memory, encoder, decoder, jpeg, ofa; } use_v1;
typedef struct { unsigned version, count; unsigned long long last_seen_us; use_v1 *uses; } uses_v1;

static long double about_process(const char *what, const device *gpu, unsigned number, long double otherwise) {
    char name[96];
    if (gpu->mig == NO_MIG) snprintf(name, sizeof name, "%s.gpu%d.%u", what, gpu->index, number);
    else snprintf(name, sizeof name, "%s.gpu%d.mig%d.%u", what, gpu->index, gpu->mig, number);
    return scenario(name, otherwise);
}
static unsigned process_count(const device *gpu) { return (unsigned)about("processes", gpu, 0); }
static unsigned pid_of(const device *gpu, unsigned number) {
    return (unsigned)about_process("pid", gpu, number, 4000000 + 100 * gpu->index + number);
}
static unsigned long long wall_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000;
}

static int list(const device *gpu, unsigned *count, process_v3 *processes) {
    unsigned have = process_count(gpu), room = *count;
    *count = have;
    if (have > room || (have && !processes)) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < have; i++) {
        long double memory = about_process("process_memory", gpu, i, 2ll << 30);
        processes[i] = (process_v3){
            .pid = pid_of(gpu, i),
            .memory = memory < 0 ? ULLONG_MAX : (unsigned long long)memory,
            .gpu_instance = gpu->mig == NO_MIG ? WHOLE_GPU : 7u + (unsigned)gpu->mig,
            .compute_instance = gpu->mig == NO_MIG ? WHOLE_GPU : 0,
        };
    }
    return SUCCESS;
}
static int none(unsigned *count) { *count = 0; return SUCCESS; }

EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(device *gpu, unsigned *count, process_v3 *p) { ENTER(gpu); return list(gpu, count, p); }
EXPORT int nvmlDeviceGetComputeRunningProcesses_v2(device *gpu, unsigned *count, process_v3 *p) { ENTER(gpu); return list(gpu, count, p); }
EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v3(device *gpu, unsigned *count, process_v3 *p) { ENTER(gpu); (void)p; return none(count); }
EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v2(device *gpu, unsigned *count, process_v3 *p) { ENTER(gpu); (void)p; return none(count); }
EXPORT int nvmlDeviceGetMPSComputeRunningProcesses_v3(device *gpu, unsigned *count, process_v3 *p) { ENTER(gpu); (void)p; return none(count); }
EXPORT int nvmlDeviceGetMPSComputeRunningProcesses_v2(device *gpu, unsigned *count, process_v3 *p) { ENTER(gpu); (void)p; return none(count); }

EXPORT int nvmlDeviceGetProcessUtilization(device *gpu, use *uses, unsigned *count, unsigned long long since_us) {
    ENTER_GPU(gpu);
    (void)since_us;
    unsigned have = process_count(gpu), room = *count;
    if (about("mig", gpu, 0)) return NOT_SUPPORTED;
    if (!have) return NOT_FOUND;
    *count = have;
    if (!uses || room < have) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < have; i++)
        uses[i] = (use){pid_of(gpu, i), wall_us(), (unsigned)about_process("process_busy", gpu, i, 30), 10, 0, 0};
    return SUCCESS;
}
EXPORT int nvmlDeviceGetProcessesUtilizationInfo(device *gpu, uses_v1 *answer) {
    ENTER_GPU(gpu);
    if (answer->version != (sizeof *answer | 1u << 24)) return ARGUMENT_VERSION_MISMATCH;
    unsigned have = process_count(gpu), room = answer->count;
    if (about("mig", gpu, 0)) return NOT_SUPPORTED;
    if (!have) return NOT_FOUND;
    answer->count = have;
    if (!answer->uses || room < have) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < have; i++)
        answer->uses[i] = (use_v1){wall_us(), pid_of(gpu, i), (unsigned)about_process("process_busy", gpu, i, 30), 10, 0, 0, 0, 0};
    return SUCCESS;
}
