/* What a program in C takes for the reads that the packages make: the same system call by the C library's function, as
 * many descriptors as there are tasks, and offsets that are chosen before the clock starts. Prints JSON. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 4096 };

static double cpu_us(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 + used.ru_utime.tv_usec +
           used.ru_stime.tv_usec;
}

static double wall_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void read_all(const int *files, const off_t *offsets, int tasks, int each)
{
    static char buffer[PIECE];
    for (int task = 0; task < tasks; task++) {
        for (int piece = 0; piece < each; piece++) {
            struct iovec room = {buffer, PIECE};
            off_t offset = offsets[task * each + piece];
            ssize_t count = preadv2(files[task], &room, 1, offset, RWF_NOWAIT);
            if (count != PIECE) /* The system takes a page out of memory now and then. */
                count = pread(files[task], buffer, PIECE, offset);
            if (count != PIECE)
                fail("a file that is cached and large enough");
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fputs("usage: read PATH COUNT TASKS\n", stderr);
        return 2;
    }
    int tasks = atoi(argv[3]), each = tasks > 0 ? atoi(argv[2]) / tasks : 0;
    if (tasks < 1 || each < 1) {
        fputs("read: at least one task, and one piece for each\n", stderr);
        return 2;
    }
    struct stat known;
    int *files = malloc((size_t)tasks * sizeof *files);
    off_t *offsets = malloc((size_t)tasks * (size_t)each * sizeof *offsets);
    if (stat(argv[1], &known) < 0 || !files || !offsets)
        fail(argv[1]);
    for (int task = 0; task < tasks; task++)
        if ((files[task] = open(argv[1], O_RDONLY | O_CLOEXEC)) < 0)
            fail(argv[1]);
    uint64_t state = 0x9e3779b97f4a7c15, pieces = known.st_size / PIECE;
    for (int number = 0; number < tasks * each; number++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        offsets[number] = pieces ? state % pieces * PIECE : 0;
    }
    read_all(files, offsets, tasks, 1);
    double began = wall_us(), used = cpu_us();
    read_all(files, offsets, tasks, each);
    used = cpu_us() - used;
    printf("{\"operations\": %d, \"wall_us\": %f, \"cpu_us\": %f}\n", tasks * each,
           (wall_us() - began) / (tasks * each), used / (tasks * each));
    return 0;
}
