/* Field values: many numbers by one call, each with a type and an error of its own. */
#include "fake_nvml.h"

typedef union {
    double number;
    unsigned whole;
    unsigned long long large;
    long long signed_large;
    int signed_whole;
} any_value;
typedef struct {
    unsigned id, scope;
    long long timestamp_us, latency_us;
    unsigned type;
    int error;
    any_value value;
} field_value;
enum { DOUBLE, UINT, ULONG, ULONGLONG, LONGLONG, INT };

/* GAUGE: a number as it is now. COUNTER: grows. LINK: of one NVLink, or of all. ABSENT: this card has none. */
enum kind { ABSENT, GAUGE, COUNTER, LINK_COUNTER, LINK_GAUGE };
typedef struct { unsigned id; enum kind kind; int type; const char *name; long double value; int bits; } field;

static const field fields[] = {
    {1, GAUGE, UINT, "ecc", 1, 0},
    {3, COUNTER, ULONGLONG, "sbe_volatile", 0, 64},
    {4, COUNTER, ULONGLONG, "dbe_volatile", 0, 64},
    {5, COUNTER, ULONGLONG, "sbe_aggregate", 0, 64},
    {6, COUNTER, ULONGLONG, "dbe_aggregate", 0, 64},
    /* The totals over all links answer with success and 0 on Hopper. */
    {38, GAUGE, ULONGLONG, "legacy", 0, 0},
    {45, GAUGE, ULONGLONG, "legacy", 0, 0},
    {52, GAUGE, ULONGLONG, "legacy", 0, 0},
    {59, GAUGE, ULONGLONG, "legacy", 0, 0},
    {74, COUNTER, ULONGLONG, "sw_power", 50e6L, 64},
    {75, COUNTER, ULONGLONG, "thermal", 0, 64},
    {76, COUNTER, ULONGLONG, "sync_boost", 0, 64},
    {82, GAUGE, UINT, "memory_temperature", 52, 0},
    {83, COUNTER, ULONGLONG, "energy", 123456, 64},
    {91, GAUGE, UINT, "nvlinks", 18, 0},
    {94, COUNTER, UINT, "replay", 0, 32},
    {138, LINK_COUNTER, ULONGLONG, "nvlink_tx", 100e6L, 64},
    {139, LINK_COUNTER, ULONGLONG, "nvlink_rx", 90e6L, 64},
    {140, LINK_COUNTER, ULONGLONG, "nvlink_raw_tx", 110e6L, 64},
    {141, LINK_COUNTER, ULONGLONG, "nvlink_raw_rx", 99e6L, 64},
    {142, GAUGE, UINT, "remapped_correctable", 0, 0},
    {143, GAUGE, UINT, "remapped_uncorrectable", 0, 0},
    {144, GAUGE, UINT, "remapped_pending", 0, 0},
    {145, GAUGE, UINT, "remapped_failure", 0, 0},
    {161, LINK_COUNTER, ULONGLONG, "nvlink_replay", 0, 64},
    {162, LINK_COUNTER, ULONGLONG, "nvlink_recovery", 0, 64},
    {163, LINK_COUNTER, ULONGLONG, "nvlink_crc", 0, 64},
    {164, LINK_GAUGE, UINT, "nvlink_mbps", 26562, 0},
    {165, LINK_GAUGE, UINT, "nvlink_state", 1, 0},
    {166, LINK_GAUGE, UINT, "nvlink_version", 6, 0},
    {169, COUNTER, UINT, "pcie_recovery", 0, 32},
    {173, COUNTER, UINT, "pcie_correctable", 0, 32},
    {174, COUNTER, UINT, "pcie_naks_received", 0, 32},
    {175, COUNTER, UINT, "pcie_receiver", 0, 32},
    {176, COUNTER, UINT, "pcie_bad_tlp", 0, 32},
    {177, COUNTER, UINT, "pcie_naks_sent", 0, 32},
    {178, COUNTER, UINT, "pcie_bad_dllp", 0, 32},
    {179, COUNTER, UINT, "pcie_non_fatal", 0, 32},
    {180, COUNTER, UINT, "pcie_fatal", 0, 32},
    {181, COUNTER, UINT, "pcie_unsupported", 0, 32},
    {182, COUNTER, UINT, "pcie_lcrc", 0, 32},
    {183, COUNTER, UINT, "pcie_lane", 0, 32},
    {185, GAUGE, UINT, "milliwatts", 123456, 0},
    {186, GAUGE, UINT, "milliwatts_instant", 123456, 0},
    {187, GAUGE, UINT, "limit_min", 200000, 0},
    {188, GAUGE, UINT, "limit_max", 700000, 0},
    {189, GAUGE, UINT, "default_limit", 700000, 0},
    {190, GAUGE, UINT, "limit", 700000, 0},
    {191, COUNTER, ULONGLONG, "energy", 123456, 64},
    {192, GAUGE, UINT, "limit", 700000, 0},
    {193, GAUGE, INT, "shutdown_margin", -8, 0},
    {194, GAUGE, INT, "slowdown_margin", -2, 0},
    {195, GAUGE, INT, "memory_margin", 0, 0},
    {196, GAUGE, INT, "gpu_margin", 0, 0},
    {197, COUNTER, ULONGLONG, "pcie_tx", 5e9L, 64},
    {198, COUNTER, ULONGLONG, "pcie_rx", 10e9L, 64},
    {230, GAUGE, UINT, "recovery", 0, 0},
    {269, COUNTER, ULONGLONG, "sw_thermal", 0, 64},
    {270, COUNTER, ULONGLONG, "hw_thermal", 0, 64},
    {271, COUNTER, ULONGLONG, "power_brake", 0, 64},
};

/* What links of the fifth generation count instead, with "nvlink5 1". */
static const field fifth_generation[] = {
    {202, LINK_COUNTER, ULONGLONG, "nvlink5_tx", 100e9L, 64},
    {204, LINK_COUNTER, ULONGLONG, "nvlink5_rx", 90e9L, 64},
    {206, LINK_COUNTER, ULONGLONG, "nvlink5_malformed", 0, 64},
    {207, LINK_COUNTER, ULONGLONG, "nvlink5_overrun", 0, 64},
    {208, LINK_COUNTER, ULONGLONG, "nvlink5_receive", 0, 64},
    {209, LINK_COUNTER, ULONGLONG, "nvlink5_remote", 0, 64},
    {210, LINK_COUNTER, ULONGLONG, "nvlink5_general", 0, 64},
    {211, LINK_COUNTER, ULONGLONG, "nvlink5_integrity", 0, 64},
    {212, LINK_COUNTER, ULONGLONG, "nvlink5_discards", 0, 64},
    {213, LINK_COUNTER, ULONGLONG, "nvlink5_recovered", 0, 64},
    {214, LINK_COUNTER, ULONGLONG, "nvlink5_not_recovered", 0, 64},
    {215, LINK_COUNTER, ULONGLONG, "nvlink5_recoveries", 0, 64},
    {219, LINK_COUNTER, ULONGLONG, "nvlink5_effective_errors", 0, 64},
    {221, LINK_COUNTER, ULONGLONG, "nvlink5_symbol_errors", 0, 64},
};

#define FIND(table) \
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) if (table[i].id == id) return &table[i]

static const field *field_of(const device *gpu, unsigned id) {
    int fifth = about("nvlink5", gpu, 0) != 0;
    if (fifth) FIND(fifth_generation);
    if (fifth && id >= 138 && id <= 141) return NULL;
    FIND(fields);
    return NULL;
}

static unsigned long long of_links(const field *one, const device *gpu, unsigned scope, unsigned links) {
    unsigned long long all = counter(one->name, gpu, one->value, one->bits);
    return scope == UINT_MAX ? all : all / links;
}

static int read_field(const device *gpu, field_value *answer) {
    char name[64];
    snprintf(name, sizeof name, "field.%u", answer->id);
    int error = (int)about(name, gpu, SUCCESS);
    if (error) return error;
    if (answer->id >= (unsigned)about("fields_max", gpu, 1000)) return INVALID_ARGUMENT; /* an old driver */
    const field *one = field_of(gpu, answer->id);
    if (!one) return NOT_SUPPORTED;
    unsigned links = (unsigned)about("nvlinks", gpu, 18);
    int linked = one->kind == LINK_COUNTER || one->kind == LINK_GAUGE;
    if (linked && !links) return NOT_SUPPORTED;
    if (linked && answer->scope >= links && (answer->scope != UINT_MAX || one->kind == LINK_GAUGE)) return INVALID_ARGUMENT;
    if (!linked && answer->scope > 1) return INVALID_ARGUMENT;

    snprintf(name, sizeof name, "type.%u", answer->id);
    answer->type = (unsigned)about(name, gpu, one->type);
    unsigned long long counted = 0;
    long double value = about(one->name, gpu, one->value);
    if (one->kind == COUNTER) counted = counter(one->name, gpu, one->value, one->bits);
    if (one->kind == LINK_COUNTER) counted = of_links(one, gpu, answer->scope, links);
    if (answer->id == 166 && about("nvlink5", gpu, 0)) value = 7;
    if (answer->id == 165 && (unsigned)about("nvlink_down", gpu, -1) == answer->scope) value = 0;
    snprintf(name, sizeof name, "value.%u", answer->id);
    long double played = about(name, gpu, -1e30L);
    int counts = one->kind == COUNTER || one->kind == LINK_COUNTER;
    if (played != -1e30L) { value = played; counted = played < 0 ? 0 : (unsigned long long)played; }
    answer->value.large = 0;
    switch (answer->type) {
        case DOUBLE: answer->value.number = counts ? (double)counted : (double)value; break;
        case UINT: answer->value.whole = counts ? (unsigned)counted : (unsigned)value; break;
        case INT: answer->value.signed_whole = (int)value; break;
        case LONGLONG: answer->value.signed_large = counts ? (long long)counted : (long long)value; break;
        default: answer->value.large = counts ? counted : (unsigned long long)value;
    }
    return SUCCESS;
}

EXPORT int nvmlDeviceGetFieldValues(device *gpu, int count, field_value *values) {
    ENTER(gpu);
    if (gpu->mig != NO_MIG) return NOT_SUPPORTED;
    for (int i = 0; i < count; i++) {
        /* What stands in a value that is not to be had looks like one, and is nothing to rely on. */
        values[i].value.large = 12345;
        values[i].type = ULONGLONG;
        values[i].timestamp_us = (long long)(seconds() * 1e6L);
        values[i].latency_us = 1;
        values[i].error = read_field(gpu, &values[i]);
    }
    return SUCCESS;
}
