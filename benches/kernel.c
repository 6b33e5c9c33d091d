// SPDX-License-Identifier: Apache-2.0 OR MIT
// Time what programs do to a tree: kernel DIRECTORY. One line a case: name, nanoseconds for one
// operation. The tree has `file`, `small/NN/NN`, `names` with 2,000 files and `many` with 100,000.
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MIB (1 << 20)

static char buffer[MIB];

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

static void drop_caches(void)
{
	int file = open("/proc/sys/vm/drop_caches", O_WRONLY);

	if (file < 0 || write(file, "3\n", 2) != 2)
		err(1, "drop_caches");
	close(file);
	/* What was dropped is freed some grace periods later, which is no part of the next case. */
	sleep(1);
}

static int open_file(off_t *size)
{
	int file = open("file", O_RDONLY);
	struct stat status;

	if (file < 0 || fstat(file, &status))
		err(1, "file");
	*size = status.st_size;
	return file;
}

static long sequential(size_t block)
{
	off_t size;
	int file = open_file(&size);
	long count = 0;

	while (read(file, buffer, block) > 0)
		count++;
	close(file);
	return count;
}

static long read_large(void)
{
	return sequential(MIB);
}

static long read_pages(void)
{
	return sequential(4096);
}

static long read_random(void)
{
	off_t size;
	int file = open_file(&size);
	unsigned long state = 1;
	long count;

	for (count = 0; count < 8192; count++) {
		state = state * 6364136223846793005ul + 1442695040888963407ul;
		if (pread(file, buffer, 4096, (state >> 33) % (size / 4096) * 4096) != 4096)
			err(1, "read");
	}
	close(file);
	return count;
}

static long map_file(void)
{
	off_t size, at;
	int file = open_file(&size);
	volatile char *memory = mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0);

	if (memory == MAP_FAILED)
		err(1, "mmap");
	for (at = 0; at < size; at += 4096)
		(void)memory[at];
	munmap((void *)memory, size);
	close(file);
	return 1;
}

static long walk_small(void)
{
	long count = 0;
	DIR *top = opendir("small");
	struct dirent *one, *two;
	struct stat status;

	while ((one = readdir(top))) {
		int below = openat(dirfd(top), one->d_name, O_RDONLY | O_DIRECTORY);
		DIR *dir = fdopendir(below);

		while (one->d_name[0] != '.' && (two = readdir(dir))) {
			if (fstatat(below, two->d_name, &status, AT_SYMLINK_NOFOLLOW))
				err(1, "%s", two->d_name);
			count++;
		}
		closedir(dir);
	}
	closedir(top);
	return count;
}

static long read_small(void)
{
	char path[64];
	long i;

	for (i = 0; i < 5000; i++) {
		int file;

		snprintf(path, sizeof(path), "small/%02ld/%02ld", i / 100, i % 100);
		file = open(path, O_RDONLY);
		if (file < 0 || read(file, buffer, 65536) <= 0)
			err(1, "%s", path);
		close(file);
	}
	return i;
}

static long stat_names(const char *directory, long step)
{
	char path[64];
	struct stat status;
	long i;

	for (i = 0; i < 2000; i++) {
		snprintf(path, sizeof(path), "%s/%06ld", directory, i * step);
		if (stat(path, &status))
			err(1, "%s", path);
	}
	return i;
}

static long stat_2000(void)
{
	return stat_names("names", 1);
}

static long stat_100000(void)
{
	return stat_names("many", 50);
}

static const struct {
	const char *name;
	long (*run)(void);
	int cold;
} cases[] = {
	{ "read 1 MiB blocks, first time", read_large, 1 },
	{ "read 4 KiB blocks in order", read_pages, 0 },
	{ "read 4 KiB blocks at random", read_random, 0 },
	{ "map 64 MiB and touch every page", map_file, 1 },
	{ "walk with stat, after drop_caches", walk_small, 1 },
	{ "walk with stat, warm", walk_small, 0 },
	{ "open, read, close, after drop_caches", read_small, 1 },
	{ "open, read, close, warm", read_small, 0 },
	{ "stat in a directory of 2,000, after drop_caches", stat_2000, 1 },
	{ "stat in a directory of 100,000, after drop_caches", stat_100000, 1 },
};

int main(int argc, char **argv)
{
	size_t i;

	if (argc != 2 || chdir(argv[1]))
		err(2, "usage: kernel DIRECTORY");
	/* The first touch of its pages is no part of the first case. */
	memset(buffer, 1, sizeof(buffer));
	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		double start;
		long count;

		if (cases[i].cold)
			drop_caches();
		else
			cases[i].run();
		start = now();
		count = cases[i].run();
		printf("%s\t%.0f\n", cases[i].name, (now() - start) / count);
		fflush(stdout);
	}
	return 0;
}
