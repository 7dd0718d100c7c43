/* The scenario of the stand-in: a file of lines "name number", read anew when it was replaced. */
#include "fake_nvml.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

enum { LINES_MAX = 512 };

static struct { char name[96]; long double value; } lines[LINES_MAX];
static int line_count;
static struct stat read_of;
/* The driver that this process opened first; a library cannot talk to another one. */
static long double driver_of_process = -1;

int open_count;

static int unchanged(const struct stat *now) {
    return now->st_ino == read_of.st_ino && now->st_size == read_of.st_size
        && now->st_mtim.tv_sec == read_of.st_mtim.tv_sec && now->st_mtim.tv_nsec == read_of.st_mtim.tv_nsec;
}

static void read_again(void) {
    const char *path = getenv("FAKE_NVML");
    struct stat now;
    if (!path || stat(path, &now)) { line_count = 0; memset(&read_of, 0, sizeof read_of); return; }
    if (unchanged(&now)) return;
    FILE *file = fopen(path, "re");
    if (!file) return;
    line_count = 0;
    while (line_count < LINES_MAX
           && fscanf(file, "%95s %Lf", lines[line_count].name, &lines[line_count].value) == 2) line_count++;
    fclose(file);
    read_of = now;
}

static const long double *found(const char *name) {
    for (int i = 0; i < line_count; i++)
        if (!strcmp(lines[i].name, name)) return &lines[i].value;
    return NULL;
}

long double scenario(const char *name, long double otherwise) {
    const long double *value = found(name);
    return value ? *value : otherwise;
}

long double about(const char *what, const device *gpu, long double otherwise) {
    char name[128];
    if (!line_count) return otherwise;
    if (gpu && gpu->mig != NO_MIG) {
        snprintf(name, sizeof name, "%s.gpu%d.mig%d", what, gpu->index, gpu->mig);
        const long double *value = found(name);
        if (value) return *value;
    }
    if (gpu) {
        snprintf(name, sizeof name, "%s.gpu%d", what, gpu->index);
        const long double *value = found(name);
        if (value) return *value;
    }
    return scenario(what, otherwise);
}

long double seconds(void) {
    struct timespec now;
    long double played = scenario("clock_ms", -1);
    if (played >= 0) return played / 1000;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9L;
}

unsigned long long counter(const char *name, const device *gpu, long double per_second, int bits) {
    char key[96];
    snprintf(key, sizeof key, "rate.%s", name);
    long double value = about(key, gpu, per_second) * seconds();
    snprintf(key, sizeof key, "offset.%s", name);
    value += about(key, gpu, 0);
    if (value < 0) value = 0;
    snprintf(key, sizeof key, "bits.%s", name);
    bits = (int)about(key, gpu, bits);
    unsigned long long whole = (unsigned long long)value;
    return bits < 64 ? whole & ((1ull << bits) - 1) : whole;
}

static void append(const char *suffix, const char *text) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s.%s", getenv("FAKE_NVML"), suffix);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) return;
    char line[160];
    int size = snprintf(line, sizeof line, "%d %s\n", (int)getpid(), text);
    if (write(fd, line, (size_t)size) != size) abort();
    close(fd);
}

/* nvmlInit is played under one name whatever version of it is called. */
static const char *played_name(const char *function) {
    return strncmp(function, "nvmlInit", 8) ? function : "nvmlInit";
}

int enter(const char *function, const device *gpu) {
    char name[128];
    read_again();
    function = played_name(function);
    /* Who opens the driver is always written down: tests count the processes. */
    if (!strcmp(function, "nvmlInit") && getenv("FAKE_NVML")) append("opened", function);
    long double driver = scenario("driver", 0);
    if (driver_of_process < 0) driver_of_process = driver;
    if (!line_count) return open_count ? SUCCESS : UNINITIALIZED;
    if (scenario("record", 0)) append("calls", function);
    snprintf(name, sizeof name, "sleep.%s", function);
    long double milliseconds = about(name, gpu, scenario("sleep", 0));
    if (milliseconds) usleep((useconds_t)(milliseconds * 1000));
    read_again();
    snprintf(name, sizeof name, "fail.%s", function);
    int error = (int)about(name, gpu, SUCCESS);
    if (error) return error;
    if (scenario("driver", 0) != driver_of_process) return LIB_RM_VERSION_MISMATCH;
    if (!open_count) return UNINITIALIZED;
    if (!gpu) return SUCCESS;
    error = (int)about("fail", gpu, SUCCESS);
    if (!error && (unsigned)gpu->index >= gpu_count()) return GPU_IS_LOST;
    return error;
}
