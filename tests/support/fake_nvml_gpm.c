/* GPM: values between two samples. As with the real one, two calls at a time end the process. */
#include "fake_nvml.h"

typedef struct { int taken, index, mig; long double at; } sample;
typedef struct { unsigned version, supported; } support;
typedef struct {
    unsigned id;
    int error;
    double value;
    struct { const char *short_name, *long_name, *unit; } info;
} metric;
typedef struct { unsigned version, count; sample *first, *second; metric metrics[]; } metrics_get;

static int inside;
/* Samples that were handed out and not freed: more than this is a leak. */
enum { SAMPLES_MAX = 100 };
static int samples;

#define ALONE(answer) do { \
    if (__atomic_exchange_n(&inside, 1, __ATOMIC_SEQ_CST)) abort(); \
    int result_ = (answer); \
    __atomic_store_n(&inside, 0, __ATOMIC_SEQ_CST); \
    return result_; } while (0)

EXPORT int nvmlGpmQueryDeviceSupport(device *gpu, support *answer) {
    ENTER(gpu);
    if (answer->version != 1) return ARGUMENT_VERSION_MISMATCH;
    answer->supported = (unsigned)about("gpm", gpu, 1);
    return SUCCESS;
}
EXPORT int nvmlGpmSampleAlloc(sample **made) {
    ENTER(NULL);
    if (++samples > SAMPLES_MAX) abort();
    *made = calloc(1, sizeof **made);
    return SUCCESS;
}
EXPORT int nvmlGpmSampleFree(sample *old) { ENTER(NULL); samples--; free(old); return SUCCESS; }

static int take(device *gpu, int mig, sample *into, const char *function) {
    int error = enter(function, gpu);
    if (error) return error;
    if (!about("gpm", gpu, 1)) return NOT_SUPPORTED;
    *into = (sample){1, gpu->index, mig, seconds()};
    return SUCCESS;
}
EXPORT int nvmlGpmSampleGet(device *gpu, sample *into) { ALONE(take(gpu, NO_MIG, into, __func__)); }
EXPORT int nvmlGpmMigSampleGet(device *gpu, unsigned instance, sample *into) {
    if (instance < 7 || instance - 7 >= (unsigned)about("mig", gpu, 0)) return NOT_FOUND;
    ALONE(take(gpu, (int)instance - 7, into, __func__));
}

static double value_of(unsigned id, const device *gpu, int *error) {
    char name[32];
    snprintf(name, sizeof name, "gpmfail.%u", id);
    *error = (int)about(name, gpu, SUCCESS);
    snprintf(name, sizeof name, "gpm.%u", id);
    switch (id) {
        case 1: return (double)about(name, gpu, 95);
        case 2: return (double)about(name, gpu, 88.5L);
        case 3: return (double)about(name, gpu, 42.25L);
        case 5: return (double)about(name, gpu, 61.5L);
        case 7: return (double)about(name, gpu, 60);
        case 10: return (double)about(name, gpu, 55);
        case 4: case 6: case 8: case 9: case 11: case 12: case 13: return (double)about(name, gpu, 3);
        case 20: case 21: return (double)about(name, gpu, 9000); /* MiB/s */
        case 60: case 61: return (double)about(name, gpu, 90000);
        default: *error = *error ? *error : NOT_SUPPORTED; return 0.0 / 0.0;
    }
}

static int metrics(metrics_get *query) {
    int error = enter("nvmlGpmMetricsGet", NULL);
    if (error) return error;
    if (query->version != 1) return ARGUMENT_VERSION_MISMATCH;
    if (!query->first || !query->second || !query->first->taken || !query->second->taken) return INVALID_ARGUMENT;
    if (query->first->index != query->second->index || query->first->mig != query->second->mig) return INVALID_ARGUMENT;
    if (query->second->at <= query->first->at) return INVALID_ARGUMENT;
    device gpu = {query->first->index, query->first->mig};
    for (unsigned i = 0; i < query->count; i++) {
        metric *one = &query->metrics[i];
        one->value = value_of(one->id, &gpu, &one->error);
    }
    return SUCCESS;
}
EXPORT int nvmlGpmMetricsGet(metrics_get *query) { ALONE(metrics(query)); }
