/* Events: "events 12" says how many there have been; a set delivers each that came after its registration. */
#include "fake_nvml.h"

typedef struct {
    device *gpu;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
} event;
typedef struct { long double delivered; unsigned long long types[GPUS_MAX]; } event_set;

static unsigned long long supported(const device *gpu) {
    return (unsigned long long)about("event_types", gpu, 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x80);
}

EXPORT int nvmlEventSetCreate(event_set **set) {
    ENTER(NULL);
    *set = calloc(1, sizeof **set);
    (*set)->delivered = scenario("events", 0);
    return SUCCESS;
}
EXPORT int nvmlEventSetFree(event_set *set) { ENTER(NULL); free(set); return SUCCESS; }
EXPORT int nvmlDeviceGetSupportedEventTypes(device *gpu, unsigned long long *types) { ENTER_GPU(gpu); *types = supported(gpu); return SUCCESS; }
EXPORT int nvmlDeviceRegisterEvents(device *gpu, unsigned long long types, event_set *set) {
    ENTER_GPU(gpu);
    if (types & ~supported(gpu)) return NOT_SUPPORTED;
    set->types[gpu->index] |= types;
    return SUCCESS;
}

/* The n-th event: its GPU and data may step on from one to the next ("event_gpu_step", "event_data_step"). */
static event nth(long double n) {
    event one = {0};
    unsigned index = (unsigned)(scenario("event_gpu", 0) + (n - 1) * scenario("event_gpu_step", 0)) % gpu_count();
    one.gpu = gpu_at(index);
    one.type = (unsigned long long)scenario("event_type", 8);
    one.data = (unsigned long long)(scenario("event_data", 79) + (n - 1) * scenario("event_data_step", 0));
    one.gpu_instance = one.compute_instance = WHOLE_GPU;
    return one;
}

EXPORT int nvmlEventSetWait_v2(event_set *set, event *answer, unsigned timeout_ms) {
    for (unsigned waited = 0;; waited += 5) {
        ENTER(NULL);
        while (set->delivered < scenario("events", 0)) {
            event one = nth(++set->delivered);
            if (!(set->types[one.gpu->index] & one.type)) continue;
            *answer = one;
            return SUCCESS;
        }
        if (waited >= timeout_ms) return TIMED_OUT;
        usleep(5000);
    }
}
