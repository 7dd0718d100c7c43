/* Writes a run that Tracker's agent ships: a record stream (docs/record-format.md) with the C library alone.
 *
 *     cc -O2 -o writer writer.c
 *     ./writer SPOOL RUN [STEPS [PAUSE_S]]
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 0, METRICS = 1, CONFIG = 4, RUN = 6, EXIT = 9, LOST = 13 };

/* Bytes that grow, and msgpack written into them. */

struct bytes {
    unsigned char *data;
    size_t size, room;
};

static void put(struct bytes *to, const void *data, size_t size) {
    if (to->size + size > to->room) {
        to->room = 2 * (to->size + size);
        to->data = realloc(to->data, to->room);
        if (to->data == NULL) abort();
    }
    memcpy(to->data + to->size, data, size);
    to->size += size;
}

static void put_byte(struct bytes *to, unsigned char byte) { put(to, &byte, 1); }

static void put_big_endian(struct bytes *to, uint64_t value, int width) {
    while (width-- > 0) put_byte(to, (unsigned char)(value >> 8 * width));
}

static void put_int(struct bytes *to, int64_t value) {
    if (value >= -32 && value < 128) {
        put_byte(to, (unsigned char)value);
    } else if (value >= 0 && value <= UINT32_MAX) {
        put_byte(to, 0xce);
        put_big_endian(to, (uint64_t)value, 4);
    } else {
        put_byte(to, 0xd3);
        put_big_endian(to, (uint64_t)value, 8);
    }
}

static void put_double(struct bytes *to, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_byte(to, 0xcb);
    put_big_endian(to, bits, 8);
}

static void put_string(struct bytes *to, const char *text) {
    size_t size = strlen(text);
    if (size < 32) {
        put_byte(to, (unsigned char)(0xa0 | size));
    } else {
        put_byte(to, 0xdb);
        put_big_endian(to, size, 4);
    }
    put(to, text, size);
}

/* The shortest form, which a line must have around its body. */
static void put_bin(struct bytes *to, const void *data, size_t size) {
    int width = size < 0x100 ? 1 : size < 0x10000 ? 2 : 4;
    put_byte(to, width == 1 ? 0xc4 : width == 2 ? 0xc5 : 0xc6);
    put_big_endian(to, size, width);
    put(to, data, size);
}

static void put_array(struct bytes *to, unsigned size) { put_byte(to, (unsigned char)(0x90 | size)); }
static void put_map(struct bytes *to, unsigned size) { put_byte(to, (unsigned char)(0x80 | size)); }
static void put_nil(struct bytes *to) { put_byte(to, 0xc0); }

/* Checksums. */

static uint32_t crc32(uint32_t crc, const void *data, size_t size) {
    const unsigned char *at = data;
    crc = ~crc;
    while (size--) {
        crc ^= *at++;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static uint32_t rotate(uint32_t x, int by) { return x >> by | x << (32 - by); }

/* The first half of SHA-256, which the machine id is made of. */
static void sha256_half(const void *data, size_t size, unsigned char half[16]) {
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
        0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
        0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
        0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
        0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
        0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
        0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
        0xc67178f2};
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    struct bytes padded = {0};
    put(&padded, data, size);
    put_byte(&padded, 0x80);
    while (padded.size % 64 != 56) put_byte(&padded, 0);
    put_big_endian(&padded, 8 * (uint64_t)size, 8);
    for (size_t block = 0; block < padded.size; block += 64) {
        uint32_t w[64], v[8];
        for (int i = 0; i < 16; i++) {
            const unsigned char *at = padded.data + block + 4 * i;
            w[i] = (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
        }
        for (int i = 16; i < 64; i++)
            w[i] = w[i - 16] + w[i - 7] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) +
                   (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
        memcpy(v, h, sizeof v);
        for (int i = 0; i < 64; i++) {
            uint32_t t1 = v[7] + (rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25)) +
                          ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
            uint32_t t2 = (rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22)) +
                          ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
            memmove(v + 1, v, 7 * sizeof *v);
            v[4] += t1;
            v[0] = t1 + t2;
        }
        for (int i = 0; i < 8; i++) h[i] += v[i];
    }
    free(padded.data);
    for (int i = 0; i < 16; i++) half[i] = (unsigned char)(h[i / 4] >> 8 * (3 - i % 4));
}

/* The stream. */

struct stream {
    unsigned char id[16];
    int fd, lock;
    int64_t offset; /* from the monotonic clock to the wall clock, as it was at the start */
    int64_t lost;
};

static int64_t clock_ns(clockid_t which) {
    struct timespec at;
    clock_gettime(which, &at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

static int64_t now(const struct stream *stream) { return stream->offset + clock_ns(CLOCK_MONOTONIC); }

/* Write one line by one write(). Return whether it is kept; if not, nothing of it remains. */
static int append(struct stream *stream, int kind, const struct bytes *body) {
    struct bytes seed = {0}, line = {0};
    put(&seed, stream->id, 16);
    put_big_endian(&seed, 0, 4); /* the segment's number */
    put_big_endian(&seed, (uint64_t)kind, 2);
    put_array(&line, 3);
    put_byte(&line, (unsigned char)kind);
    put_byte(&line, 0xce);
    put_big_endian(&line, crc32(kind == HEADER ? 0 : crc32(0, seed.data, seed.size), body->data, body->size), 4);
    put_bin(&line, body->data, body->size);
    ssize_t written = write(stream->fd, line.data, line.size);
    int kept = written == (ssize_t)line.size;
    if (!kept && written > 0) {
        struct stat file;
        if (fstat(stream->fd, &file) != 0 || ftruncate(stream->fd, file.st_size - written) != 0) abort();
    }
    free(seed.data);
    free(line.data);
    return kept;
}

/* Append a record, or count it as lost; say how many were as soon as there is room again. Empties the body. */
static void record(struct stream *stream, int kind, struct bytes *body) {
    if (stream->lost) {
        struct bytes lost = {0};
        put_array(&lost, 3);
        put_int(&lost, now(stream));
        put_int(&lost, stream->lost);
        put_string(&lost, strerror(errno));
        if (append(stream, LOST, &lost)) stream->lost = 0;
        free(lost.data);
    }
    if (!append(stream, kind, body)) stream->lost++;
    free(body->data);
    memset(body, 0, sizeof *body);
}

/* Read a file's text without blanks at its end: "" where there is none. */
static void read_text(const char *path, char *text, size_t room) {
    FILE *file = fopen(path, "r");
    size_t size = file ? fread(text, 1, room - 1, file) : 0;
    if (file) fclose(file);
    while (size && strchr(" \n\r\t", text[size - 1])) size--;
    text[size] = 0;
}

static void machine_id(const char *host, char digits[33]) {
    char text[300] = "tracker machine";
    char *rest = text + strlen(text) + 1; /* behind the NUL, which counts */
    unsigned char half[16];
    read_text("/etc/machine-id", rest, 257);
    if (!*rest) snprintf(rest, 257, "host:%s", host);
    sha256_half(text, (size_t)(rest - text) + strlen(rest), half);
    for (int i = 0; i < 16; i++) sprintf(digits + 2 * i, "%02x", half[i]);
}

static int create(const char *directory, const char *id, const char *end, int flags) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s.%s", directory, id, end) >= (int)sizeof path) return -1;
    return open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | flags, 0660);
}

/* Begin a stream: its lock first, then segment 0 with the HEADER. Return whether that worked. */
static int begin(struct stream *stream, const char *directory, const char *run) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char id[33], boot[64], host[256] = "", machine[33];
    int64_t started = clock_ns(CLOCK_REALTIME), clock = clock_ns(CLOCK_MONOTONIC);
    int random = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (random < 0 || read(random, stream->id, 16) != 16) return 0;
    close(random);
    for (int i = 0; i < 16; i++) sprintf(id + 2 * i, "%02x", stream->id[i]);
    stream->offset = started - clock;
    stream->lost = 0;
    /* Never opened again: closing any descriptor of the file would drop the lock. */
    stream->lock = create(directory, id, "live", 0);
    if (stream->lock < 0 || fcntl(stream->lock, F_SETLK, &whole) != 0) return 0;
    stream->fd = create(directory, id, "000000.mpl", O_APPEND);
    if (stream->fd < 0) return 0;
    gethostname(host, sizeof host - 1);
    read_text("/proc/sys/kernel/random/boot_id", boot, sizeof boot);
    machine_id(host, machine);
    struct bytes body = {0};
    put_map(&body, 12);
    put_string(&body, "version"), put_int(&body, 1);
    put_string(&body, "stream"), put_bin(&body, stream->id, 16);
    put_string(&body, "segment"), put_int(&body, 0);
    put_string(&body, "base"), put_int(&body, 0);
    put_string(&body, "machine"), put_string(&body, machine);
    put_string(&body, "boot"), put_string(&body, boot);
    put_string(&body, "pid"), put_int(&body, getpid());
    put_string(&body, "started"), put_int(&body, started);
    put_string(&body, "clock"), put_int(&body, clock);
    put_string(&body, "writer"), put_string(&body, "example-c/1");
    put_string(&body, "run"), put_string(&body, run);
    put_string(&body, "host"), put_string(&body, host);
    int kept = append(stream, HEADER, &body);
    free(body.data);
    return kept;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: writer SPOOL RUN [STEPS [PAUSE_S]]\n");
        return 2;
    }
    long steps = argc > 3 ? atol(argv[3]) : 100;
    double pause_s = argc > 4 ? atof(argv[4]) : 0;
    char user[4096], directory[4096];
    snprintf(user, sizeof user, "%s/%u", argv[1], (unsigned)geteuid());
    if (snprintf(directory, sizeof directory, "%s/%s", user, argv[2]) >= (int)sizeof directory) return 1;
    mkdir(argv[1], 0770);
    mkdir(user, 0770);
    mkdir(directory, 0770);
    struct stream stream;
    if (!begin(&stream, directory, argv[2])) {
        perror(directory);
        return 1;
    }

    struct bytes body = {0};
    put_array(&body, 2);
    put_int(&body, now(&stream));
    put_map(&body, 2);
    put_string(&body, "project"), put_string(&body, "writers");
    put_string(&body, "name"), put_string(&body, "written in C");
    record(&stream, RUN, &body);

    put_array(&body, 3);
    put_int(&body, now(&stream));
    put_map(&body, 2);
    put_string(&body, "learning_rate"), put_double(&body, 0.1);
    put_string(&body, "steps"), put_int(&body, steps);
    put_array(&body, 0); /* nothing is removed */
    record(&stream, CONFIG, &body);

    for (long step = 0; step < steps; step++) {
        put_array(&body, 3);
        put_int(&body, now(&stream));
        put_int(&body, step);
        put_map(&body, 2);
        put_string(&body, "loss"), put_double(&body, 1.0 / (double)(step + 1));
        put_string(&body, "seen"), put_int(&body, 1000 * step);
        record(&stream, METRICS, &body);
        struct timespec pause = {(time_t)pause_s, (long)(1e9 * (pause_s - (double)(time_t)pause_s))};
        nanosleep(&pause, NULL);
    }

    put_array(&body, 3);
    put_int(&body, now(&stream));
    put_int(&body, 0); /* exit code */
    put_nil(&body);    /* no exception */
    record(&stream, EXIT, &body);
    close(stream.fd);
    close(stream.lock);
    return 0;
}
