/* A stand-in for libnvidia-ml.so.1, played from a scenario that a test may change at any time.
 *
 * $FAKE_NVML names a file of lines "name number". Numbers about one device end in .gpu1 or .gpu1.mig0:
 *     gpus 2               how many devices there are; fewer later: the last ones were unplugged
 *     sleep.FUNCTION 500   the call takes that many milliseconds; plain `sleep`: every call does
 *     fail.FUNCTION 18     the call answers with that error
 *     fail.gpu1 15         every call about GPU 1 does
 *     driver 2             another driver than before: processes that opened the old one get error 18
 *     mig.gpu0 2           GPU 0 is in MIG mode and has two instances
 *     record 1             calls are written down in $FAKE_NVML.calls; openings always are, in .opened
 *     busy, memory, temperature, milliwatts, sm …: the values below, by name
 *     rate.energy 500      growth of a counter per second; offset.energy, bits.energy likewise
 *     field.83 3           one field value answers with an error of its own; value.83 7: with that value
 *     gpm.5 31.5           one metric of GPM; gpmfail.5 3: its own error
 *     events 12            how many events there have been; event_type, event_data, event_gpu say which
 * Here: opening, devices and plain values. The other files: _fields, _gpm, _events, _processes.
 */
#include "fake_nvml.h"

typedef struct { unsigned gpu, memory; } utilization;
typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned version; int sensor, celsius; } temperature_v1;
typedef struct { unsigned version; int celsius; } margin_v1;
typedef struct { unsigned max, high, partial, low, none; } remap_histogram;
typedef struct { unsigned long long reference_us, violation_ns; } violation;
typedef struct {
    unsigned multiprocessors, copy, decoder, encoder, jpeg, ofa, gpu_slices, compute_slices;
    unsigned long long memory_mib;
} attributes_v2;
typedef struct {
    char legacy_id[16];
    unsigned domain, bus, device, id, subsystem;
    char id_text[32];
} pci_v3;
typedef struct { unsigned version; unsigned char cluster[16]; unsigned status, clique, state, health; } fabric_v2;

static device gpus[GPUS_MAX], migs[GPUS_MAX][MIGS_MAX];

device *gpu_at(unsigned index) { return &gpus[index]; }
device *mig_at(const device *gpu, unsigned index) { return &migs[gpu->index][index]; }
unsigned gpu_count(void) { return (unsigned)scenario("gpus", 1); }

static unsigned mig_count(const device *gpu) { return (unsigned)about("mig", gpu, 0); }
static int in_mig_mode(const device *gpu) { return mig_count(gpu) > 0; }

/* --- opening --- */

EXPORT int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    open_count++;
    int error = enter(__func__, NULL);
    if (error) { open_count--; return error; }
    for (int i = 0; i < GPUS_MAX; i++) {
        gpus[i] = (device){i, NO_MIG};
        for (int j = 0; j < MIGS_MAX; j++) migs[i][j] = (device){i, j};
    }
    return SUCCESS;
}
EXPORT int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
EXPORT int nvmlShutdown(void) { ENTER(NULL); open_count--; return SUCCESS; }
EXPORT const char *nvmlErrorString(int error) { (void)error; return "played by the scenario"; }

EXPORT int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    ENTER(NULL);
    snprintf(text, size, "999.10.%d", 2 + (int)scenario("driver", 0));
    return SUCCESS;
}
EXPORT int nvmlSystemGetNVMLVersion(char *text, unsigned size) { ENTER(NULL); snprintf(text, size, "13.999.10"); return SUCCESS; }
EXPORT int nvmlSystemGetCudaDriverVersion(int *number) { ENTER(NULL); *number = 12040; return SUCCESS; }
EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *number) { ENTER(NULL); *number = 12040; return SUCCESS; }
EXPORT int nvmlDeviceGetCount_v2(unsigned *count) { ENTER(NULL); *count = gpu_count(); return SUCCESS; }

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **gpu) {
    ENTER(NULL);
    if (index >= GPUS_MAX || index >= gpu_count()) return INVALID_ARGUMENT;
    *gpu = gpu_at(index);
    return (int)about("fail", *gpu, SUCCESS);
}

/* --- who it is --- */

static void uuid_of(const device *gpu, char *text, unsigned size) {
    if (gpu->mig == NO_MIG) snprintf(text, size, "GPU-played-%d", gpu->index);
    else snprintf(text, size, "MIG-played-%d-%d", gpu->index, gpu->mig);
}

#define TEXT(function, ...) \
    EXPORT int function(device *gpu, char *text, unsigned size) { ENTER_GPU(gpu); snprintf(text, size, __VA_ARGS__); return SUCCESS; }

EXPORT int nvmlDeviceGetUUID(device *gpu, char *text, unsigned size) { ENTER(gpu); uuid_of(gpu, text, size); return SUCCESS; }
EXPORT int nvmlDeviceGetName(device *gpu, char *text, unsigned size) {
    ENTER(gpu);
    snprintf(text, size, gpu->mig == NO_MIG ? "Played GPU" : "Played GPU MIG 1g.10gb");
    return SUCCESS;
}
TEXT(nvmlDeviceGetVbiosVersion, "96.00.99.00.%02d", gpu->index)
TEXT(nvmlDeviceGetBoardPartNumber, "900-PLAYED-0000-000")
TEXT(nvmlDeviceGetInforomImageVersion, "G520.0200.00.05")

EXPORT int nvmlDeviceGetPciInfo_v3(device *gpu, pci_v3 *pci) {
    ENTER(gpu);
    memset(pci, 0, sizeof *pci);
    pci->bus = 0x10u + (unsigned)gpu->index;
    pci->id = 0x233010de;
    snprintf(pci->legacy_id, sizeof pci->legacy_id, "0000:%02X:00.0", pci->bus);
    snprintf(pci->id_text, sizeof pci->id_text, "00000000:%02X:00.0", pci->bus);
    return SUCCESS;
}
EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *id, device **gpu) {
    unsigned bus;
    ENTER(NULL);
    const char *colon = strchr(id, ':');
    if (!colon || sscanf(colon + 1, "%x", &bus) != 1 || bus < 0x10 || bus - 0x10 >= gpu_count()) return NOT_FOUND;
    *gpu = gpu_at(bus - 0x10);
    return (int)about("fail", *gpu, SUCCESS);
}
EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, device **gpu) {
    char text[64];
    ENTER(NULL);
    for (unsigned i = 0; i < gpu_count(); i++) {
        uuid_of(gpu_at(i), text, sizeof text);
        if (!strcmp(text, uuid)) { *gpu = gpu_at(i); return (int)about("fail", *gpu, SUCCESS); }
        for (unsigned j = 0; j < mig_count(gpu_at(i)); j++) {
            uuid_of(mig_at(gpu_at(i), j), text, sizeof text);
            if (!strcmp(text, uuid)) { *gpu = mig_at(gpu_at(i), j); return SUCCESS; }
        }
    }
    return NOT_FOUND;
}

/* --- MIG --- */

EXPORT int nvmlDeviceGetMigMode(device *gpu, unsigned *current, unsigned *pending) {
    ENTER_GPU(gpu);
    if (!about("mig_capable", gpu, 1)) return NOT_SUPPORTED;
    *current = *pending = in_mig_mode(gpu);
    return SUCCESS;
}
EXPORT int nvmlDeviceGetMaxMigDeviceCount(device *gpu, unsigned *count) {
    ENTER_GPU(gpu);
    *count = about("mig_capable", gpu, 1) ? MIGS_MAX : 0;
    return SUCCESS;
}
EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(device *gpu, unsigned index, device **mig) {
    ENTER_GPU(gpu);
    if (index >= MIGS_MAX) return INVALID_ARGUMENT;
    if (index >= mig_count(gpu)) return NOT_FOUND;
    *mig = mig_at(gpu, index);
    return SUCCESS;
}
EXPORT int nvmlDeviceIsMigDeviceHandle(device *gpu, unsigned *is) { ENTER(gpu); *is = gpu->mig != NO_MIG; return SUCCESS; }
EXPORT int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device *mig, device **gpu) {
    ENTER(mig);
    if (mig->mig == NO_MIG) return NOT_FOUND;
    *gpu = gpu_at((unsigned)mig->index);
    return SUCCESS;
}
EXPORT int nvmlDeviceGetGpuInstanceId(device *gpu, unsigned *id) {
    ENTER(gpu);
    if (gpu->mig == NO_MIG) return NOT_FOUND;
    *id = 7u + (unsigned)gpu->mig;
    return SUCCESS;
}
EXPORT int nvmlDeviceGetComputeInstanceId(device *gpu, unsigned *id) {
    ENTER(gpu);
    if (gpu->mig == NO_MIG) return NOT_FOUND;
    *id = 0;
    return SUCCESS;
}
EXPORT int nvmlDeviceGetAttributes_v2(device *gpu, attributes_v2 *attributes) {
    ENTER(gpu);
    if (gpu->mig == NO_MIG) return NOT_SUPPORTED;
    *attributes = (attributes_v2){16, 1, 1, 0, 1, 0, 1, 1, 10240};
    return SUCCESS;
}

/* --- values of this moment --- */

EXPORT int nvmlDeviceGetUtilizationRates(device *gpu, utilization *rates) {
    ENTER_GPU(gpu);
    if (in_mig_mode(gpu)) return NOT_SUPPORTED;
    rates->gpu = (unsigned)about("busy", gpu, 50);
    rates->memory = (unsigned)about("memory_busy", gpu, 20);
    return SUCCESS;
}

static unsigned long long memory_total(const device *gpu) {
    return (unsigned long long)about("memory_total", gpu, gpu->mig == NO_MIG ? 80ull << 30 : 10ull << 30);
}
EXPORT int nvmlDeviceGetMemoryInfo(device *gpu, memory_v1 *memory) {
    ENTER(gpu);
    memory->total = memory_total(gpu);
    memory->used = (unsigned long long)about("memory", gpu, 1 << 30) + (512ull << 20);
    memory->free = memory->total - memory->used;
    return SUCCESS;
}
EXPORT int nvmlDeviceGetMemoryInfo_v2(device *gpu, memory_v2 *memory) {
    ENTER(gpu);
    if (memory->version != (sizeof *memory | 2u << 24)) return ARGUMENT_VERSION_MISMATCH;
    memory->total = memory_total(gpu);
    memory->reserved = 512ull << 20;
    memory->used = (unsigned long long)about("memory", gpu, 1 << 30);
    memory->free = memory->total - memory->reserved - memory->used;
    return SUCCESS;
}
EXPORT int nvmlDeviceGetBAR1MemoryInfo(device *gpu, memory_v1 *memory) {
    ENTER(gpu);
    *memory = (memory_v1){128ull << 30, 127ull << 30, 1ull << 30};
    return SUCCESS;
}
EXPORT int nvmlDeviceGetTemperature(device *gpu, int sensor, unsigned *celsius) {
    ENTER_GPU(gpu);
    if (sensor != 0) return INVALID_ARGUMENT;
    *celsius = (unsigned)about("temperature", gpu, 40);
    return SUCCESS;
}
EXPORT int nvmlDeviceGetTemperatureV(device *gpu, temperature_v1 *answer) {
    ENTER_GPU(gpu);
    if (answer->version != (sizeof *answer | 1u << 24)) return ARGUMENT_VERSION_MISMATCH;
    if (answer->sensor != 0) return INVALID_ARGUMENT;
    answer->celsius = (int)about("temperature", gpu, 40);
    return SUCCESS;
}
EXPORT int nvmlDeviceGetMarginTemperature(device *gpu, margin_v1 *answer) {
    ENTER_GPU(gpu);
    if (answer->version != (sizeof *answer | 1u << 24)) return ARGUMENT_VERSION_MISMATCH;
    answer->celsius = (int)about("margin", gpu, 47);
    return SUCCESS;
}
EXPORT int nvmlDeviceGetClockInfo(device *gpu, int kind, unsigned *mhz) {
    ENTER_GPU(gpu);
    if (kind < 0 || kind > 3) return INVALID_ARGUMENT;
    *mhz = (unsigned)about(kind == 2 ? "memory_clock" : kind == 3 ? "video" : "sm", gpu, kind == 2 ? 2619 : kind == 3 ? 1545 : 1980);
    return SUCCESS;
}
EXPORT int nvmlDeviceGetMaxClockInfo(device *gpu, int kind, unsigned *mhz) {
    ENTER_GPU(gpu);
    *mhz = kind == 2 ? 2619 : 1980;
    return SUCCESS;
}
EXPORT int nvmlDeviceGetFanSpeed(device *gpu, unsigned *percent) {
    ENTER_GPU(gpu);
    long double speed = about("fan", gpu, -1);
    if (speed < 0) return NOT_SUPPORTED; /* none on SXM boards */
    *percent = (unsigned)speed;
    return SUCCESS;
}
EXPORT int nvmlDeviceGetFanSpeed_v2(device *gpu, unsigned fan, unsigned *percent) {
    ENTER_GPU(gpu);
    long double speed = about("fan", gpu, -1);
    if (speed < 0 || fan > 1) return speed < 0 ? NOT_SUPPORTED : INVALID_ARGUMENT;
    *percent = (unsigned)speed;
    return SUCCESS;
}
static int clocks_event_reasons(device *gpu, unsigned long long *reasons) {
    *reasons = (unsigned long long)about("reasons", gpu, 4);
    return SUCCESS;
}
EXPORT int nvmlDeviceGetCurrentClocksEventReasons(device *gpu, unsigned long long *r) { ENTER_GPU(gpu); return clocks_event_reasons(gpu, r); }
EXPORT int nvmlDeviceGetCurrentClocksThrottleReasons(device *gpu, unsigned long long *r) { ENTER_GPU(gpu); return clocks_event_reasons(gpu, r); }
EXPORT int nvmlDeviceGetViolationStatus(device *gpu, int policy, violation *answer) {
    ENTER_GPU(gpu);
    if (policy != 0 && policy != 1) return NOT_SUPPORTED;
    answer->reference_us = (unsigned long long)(seconds() * 1e6L);
    answer->violation_ns = counter(policy ? "sw_thermal" : "sw_power", gpu, policy ? 0 : 50e6L, 64);
    return SUCCESS;
}
EXPORT int nvmlDeviceGetTotalEnergyConsumption(device *gpu, unsigned long long *millijoules) {
    ENTER_GPU(gpu);
    *millijoules = counter("energy", gpu, 123456, 64);
    return SUCCESS;
}
EXPORT int nvmlDeviceGetTotalEccErrors(device *gpu, int kind, int since, unsigned long long *count) {
    ENTER_GPU(gpu);
    *count = counter(kind ? (since ? "dbe_aggregate" : "dbe_volatile") : (since ? "sbe_aggregate" : "sbe_volatile"), gpu, 0, 64);
    return SUCCESS;
}
EXPORT int nvmlDeviceGetMemoryErrorCounter(device *gpu, int kind, int since, int where, unsigned long long *count) {
    (void)where;
    return nvmlDeviceGetTotalEccErrors(gpu, kind, since, count);
}
EXPORT int nvmlDeviceGetRemappedRows(device *gpu, unsigned *correctable, unsigned *uncorrectable, unsigned *pending, unsigned *failure) {
    ENTER_GPU(gpu);
    *correctable = (unsigned)about("value.142", gpu, 0);
    *uncorrectable = (unsigned)about("value.143", gpu, 0);
    *pending = (unsigned)about("value.144", gpu, 0);
    *failure = (unsigned)about("value.145", gpu, 0);
    return SUCCESS;
}
EXPORT int nvmlDeviceGetRowRemapperHistogram(device *gpu, remap_histogram *banks) {
    ENTER_GPU(gpu);
    *banks = (remap_histogram){2560, 0, 0, 0, 0};
    return SUCCESS;
}
EXPORT int nvmlDeviceGetNvLinkState(device *gpu, unsigned link, unsigned *active) {
    ENTER_GPU(gpu);
    if (link >= (unsigned)about("nvlinks", gpu, 18)) return INVALID_ARGUMENT;
    *active = (int)about("nvlink_down", gpu, -1) != (int)link;
    return SUCCESS;
}
EXPORT int nvmlDeviceGetGpuFabricInfoV(device *gpu, fabric_v2 *fabric) {
    ENTER_GPU(gpu);
    if ((fabric->version & 0xFFFFFF) < sizeof *fabric) return ARGUMENT_VERSION_MISMATCH;
    fabric->status = (unsigned)about("fabric_status", gpu, 0);
    fabric->state = (unsigned)about("fabric_state", gpu, 3);
    fabric->clique = 0;
    fabric->health = (unsigned)about("fabric_health", gpu, 0);
    return SUCCESS;
}

/* Calls that must never be made: one watches a counter for 20 ms, the other tells what identifies a machine. */
EXPORT int nvmlDeviceGetPcieThroughput(device *gpu, int kind, unsigned *kib) { (void)gpu; (void)kind; (void)kib; abort(); }
EXPORT int nvmlDeviceGetSerial(device *gpu, char *text, unsigned size) { (void)gpu; (void)text; (void)size; abort(); }

/* --- one unsigned each: name in the scenario, what it is without --- */

#define NUMBER(function, name, otherwise) \
    EXPORT int function(device *gpu, unsigned *number) { ENTER_GPU(gpu); *number = (unsigned)about(name, gpu, otherwise); return SUCCESS; }

NUMBER(nvmlDeviceGetIndex, "index", gpu->index)
NUMBER(nvmlDeviceGetMinorNumber, "minor", gpu->index)
NUMBER(nvmlDeviceGetModuleId, "module", gpu->index)
NUMBER(nvmlDeviceGetNumaNodeId, "numa", gpu->index / 4)
NUMBER(nvmlDeviceGetBrand, "brand", 5)
NUMBER(nvmlDeviceGetArchitecture, "architecture", 9)
NUMBER(nvmlDeviceGetNumGpuCores, "cores", 16896)
NUMBER(nvmlDeviceGetPersistenceMode, "persistence", 1)
NUMBER(nvmlDeviceGetComputeMode, "compute_mode", 0)
NUMBER(nvmlDeviceGetPerformanceState, "pstate", 0)
NUMBER(nvmlDeviceGetPowerUsage, "milliwatts", 123456)
NUMBER(nvmlDeviceGetPowerManagementLimit, "limit", 700000)
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, "default_limit", 700000)
NUMBER(nvmlDeviceGetEnforcedPowerLimit, "limit", 700000)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, "pcie_generation", 5)
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, "pcie_generation_max", 5)
NUMBER(nvmlDeviceGetGpuMaxPcieLinkGeneration, "pcie_generation_max", 5)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, "pcie_width", 16)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, "pcie_width_max", 16)
NUMBER(nvmlDeviceGetPcieReplayCounter, "value.94", 0)
NUMBER(nvmlDeviceGetPcieSpeed, "pcie_speed", 32000)
NUMBER(nvmlDeviceGetNumFans, "fans", 0)

#define TWO_NUMBERS(function, first_value, second_value) \
    EXPORT int function(device *gpu, unsigned *first, unsigned *second) { ENTER_GPU(gpu); *first = (unsigned)(first_value); *second = (unsigned)(second_value); return SUCCESS; }

TWO_NUMBERS(nvmlDeviceGetEccMode, about("ecc", gpu, 1), about("ecc", gpu, 1))
TWO_NUMBERS(nvmlDeviceGetCudaComputeCapability, about("capability", gpu, 9), 0)
TWO_NUMBERS(nvmlDeviceGetPowerManagementLimitConstraints, 200000, 700000)
TWO_NUMBERS(nvmlDeviceGetEncoderUtilization, about("encoder", gpu, 0), 167000)
TWO_NUMBERS(nvmlDeviceGetDecoderUtilization, about("decoder", gpu, 0), 167000)
TWO_NUMBERS(nvmlDeviceGetJpgUtilization, about("jpeg", gpu, 0), 167000)
TWO_NUMBERS(nvmlDeviceGetOfaUtilization, about("ofa", gpu, 0), 167000)

EXPORT int nvmlDeviceGetTemperatureThreshold(device *gpu, int kind, unsigned *celsius) {
    ENTER_GPU(gpu);
    if (kind < 0 || kind > 3) return NOT_SUPPORTED;
    *celsius = kind == 0 ? 95 : 90;
    return SUCCESS;
}
