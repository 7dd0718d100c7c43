/* A stand-in for libnvidia-ml.so.1, played from a scenario that a test may change at any time.
 *
 * $FAKE_NVML names a file of lines "name number", read anew by each call:
 *     gpus 2               how many devices there are
 *     sleep.FUNCTION 500   the call takes that many milliseconds
 *     fail.FUNCTION 18     the call answers with that error
 *     fail.gpu1 15         every call about GPU 1 does
 *     busy.gpu1 97         a value; also memory, temperature, milliwatts, sm
 * Prototypes follow the public nvml.h; only what the agent calls is here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, ARGUMENT_VERSION_MISMATCH = 25 };
enum { GPUS_MAX = 16 };

typedef struct { unsigned index; } device;
typedef struct { unsigned gpu, memory; } utilization;
typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;

static device devices[GPUS_MAX];
static int open_count;

static long scenario(const char *name, long otherwise) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "re") : NULL;
    char key[128];
    long value;
    if (!file) return otherwise;
    while (fscanf(file, "%127s %ld", key, &value) == 2)
        if (!strcmp(key, name)) otherwise = value;
    fclose(file);
    return otherwise;
}

static long about(const char *what, const device *gpu, long otherwise) {
    char name[128];
    snprintf(name, sizeof name, "%s.gpu%u", what, gpu->index);
    return scenario(name, otherwise);
}

static int enter(const char *function, const device *gpu) {
    char name[128];
    snprintf(name, sizeof name, "sleep.%s", function);
    long milliseconds = scenario(name, 0);
    if (milliseconds) usleep(milliseconds * 1000);
    snprintf(name, sizeof name, "fail.%s", function);
    long error = scenario(name, SUCCESS);
    if (error) return (int)error;
    if (!open_count) return UNINITIALIZED;
    return gpu ? (int)about("fail", gpu, SUCCESS) : SUCCESS;
}

#define ENTER(gpu) do { int error_ = enter(__func__, gpu); if (error_) return error_; } while (0)

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    open_count++;
    int error = enter("nvmlInit", NULL);
    if (error) { open_count--; return error; }
    for (unsigned i = 0; i < GPUS_MAX; i++) devices[i].index = i;
    return SUCCESS;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { ENTER(NULL); open_count--; return SUCCESS; }
const char *nvmlErrorString(int error) { (void)error; return "played by the scenario"; }

int nvmlSystemGetDriverVersion(char *text, unsigned size) { ENTER(NULL); snprintf(text, size, "999.10.2"); return SUCCESS; }
int nvmlSystemGetCudaDriverVersion_v2(int *number) { ENTER(NULL); *number = 12040; return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { ENTER(NULL); *count = (unsigned)scenario("gpus", 1); return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **gpu) {
    ENTER(NULL);
    if (index >= GPUS_MAX || index >= scenario("gpus", 1)) return INVALID_ARGUMENT;
    *gpu = &devices[index];
    return (int)about("fail", *gpu, SUCCESS);
}
int nvmlDeviceGetName(device *gpu, char *text, unsigned size) { ENTER(gpu); snprintf(text, size, "Played GPU"); return SUCCESS; }
int nvmlDeviceGetUUID(device *gpu, char *text, unsigned size) { ENTER(gpu); snprintf(text, size, "GPU-played-%u", gpu->index); return SUCCESS; }

int nvmlDeviceGetUtilizationRates(device *gpu, utilization *rates) {
    ENTER(gpu);
    rates->gpu = (unsigned)about("busy", gpu, 50);
    rates->memory = 20;
    return SUCCESS;
}
int nvmlDeviceGetMemoryInfo(device *gpu, memory_v1 *memory) {
    ENTER(gpu);
    memory->total = 80ull << 30;
    memory->used = (unsigned long long)about("memory", gpu, 1 << 30) + (512ull << 20);
    memory->free = memory->total - memory->used;
    return SUCCESS;
}
int nvmlDeviceGetMemoryInfo_v2(device *gpu, memory_v2 *memory) {
    ENTER(gpu);
    if (memory->version != (sizeof *memory | 2u << 24)) return ARGUMENT_VERSION_MISMATCH;
    memory->total = 80ull << 30;
    memory->reserved = 512ull << 20;
    memory->used = (unsigned long long)about("memory", gpu, 1 << 30);
    memory->free = memory->total - memory->reserved - memory->used;
    return SUCCESS;
}
int nvmlDeviceGetTemperature(device *gpu, int sensor, unsigned *celsius) {
    ENTER(gpu);
    if (sensor != 0) return INVALID_ARGUMENT;
    *celsius = (unsigned)about("temperature", gpu, 40);
    return SUCCESS;
}
int nvmlDeviceGetPowerUsage(device *gpu, unsigned *milliwatts) { ENTER(gpu); *milliwatts = (unsigned)about("milliwatts", gpu, 123456); return SUCCESS; }
int nvmlDeviceGetEnforcedPowerLimit(device *gpu, unsigned *milliwatts) { ENTER(gpu); *milliwatts = 700000; return SUCCESS; }
int nvmlDeviceGetClockInfo(device *gpu, int kind, unsigned *mhz) {
    ENTER(gpu);
    *mhz = kind == 1 ? (unsigned)about("sm", gpu, 1980) : 2619;
    return SUCCESS;
}
