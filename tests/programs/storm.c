// SPDX-License-Identifier: Apache-2.0 OR MIT
// Mount images that were tampered with, and use what they show:
//
//     storm IMAGE ADDRESS MOUNTPOINT ROUNDS SEED [validate] [scribble]
//
// Each round copies the image to physical memory at ADDRESS, changes a few bytes of what is not
// file contents, sets most checksums right again, mounts it, and walks, reads and maps all of it.
// With "scribble", another thread goes on changing bytes meanwhile. Whatever the file system
// answers will do, as long as it answers. It prints how many rounds were mounted.
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ENTRIES_MAX	300
#define DEPTH_MAX	12
#define BYTES_MAX	(64 << 10)

static unsigned char *memory, *pristine;
static size_t size, metadata;
static uint64_t state;
static atomic_bool stop;
static sigjmp_buf broken;
static int entries;

static uint64_t next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint32_t crc32c(uint32_t sum, const unsigned char *at, size_t len)
{
	sum = ~sum;
	while (len--) {
		int bit;

		sum ^= *at++;
		for (bit = 0; bit < 8; bit++)
			sum = (sum >> 1) ^ (0x82f63b78 & -(sum & 1));
	}
	return ~sum;
}

static uint64_t load(size_t at, size_t len)
{
	uint64_t value = 0;

	if (at <= size && len <= size - at)
		memcpy(&value, memory + at, len);
	return value;
}

static void store(size_t at, uint64_t value, size_t len)
{
	if (at <= size && len <= size - at)
		memcpy(memory + at, &value, len);
}

// A word of the kind that goes wrong: edges, neighbours, offsets elsewhere.
static uint64_t odd_word(uint64_t old)
{
	switch (next(&state) % 8) {
	case 0: return 0;
	case 1: return UINT64_MAX;
	case 2: return old + 1;
	case 3: return old - 1;
	case 4: return next(&state) % size;
	case 5: return next(&state) % (size / 4096) * 4096;
	case 6: return old ^ 1ull << next(&state) % 64;
	default: return next(&state);
	}
}

static void tamper(void)
{
	size_t base = load(24, 8), table = base + load(base + 24, 8);
	uint32_t count = load(base + 32, 4), ino;
	int changes = 1 + next(&state) % 6;

	while (changes--) {
		static const size_t widths[] = { 1, 2, 4, 8 };
		size_t width = widths[next(&state) % 4];
		size_t at;

		switch (next(&state) % 5) {
		case 0: at = next(&state) % 96; break;
		case 1: at = base + next(&state) % 64; break;
		case 2: case 3: at = table + next(&state) % (count * 64ull); break;
		default: at = next(&state) % metadata; break;
		}
		at = at / width * width;
		store(at, odd_word(load(at, width)), width);
	}
	if (next(&state) % 8) {
		uint32_t sum = crc32c(0, memory, 64);

		store(1020, crc32c(sum, memory + 72, 948), 4);
	}
	if (next(&state) % 4 == 0)
		return;
	if (load(24, 8) == base)
		store(base + 4092, crc32c(0, memory + base, 4092), 4);
	for (ino = 0; ino < count && table + (ino + 1) * 64ull <= size; ino++)
		store(table + ino * 64 + 60, crc32c(0, memory + table + ino * 64, 60), 4);
}

static void on_bus_error(int signal)
{
	siglongjmp(broken, 1);
}

static void use_file(const char *path)
{
	static char buffer[BYTES_MAX];
	int file = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	struct stat status;

	if (file < 0)
		return;
	if (!fstat(file, &status) && S_ISREG(status.st_mode)) {
		volatile char *mapped;
		size_t len = BYTES_MAX, at;

		(void)!pread(file, buffer, sizeof(buffer), 0);
		(void)!pread(file, buffer, 4096, status.st_size - 100);
		mapped = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
		if (mapped != MAP_FAILED) {
			if (!sigsetjmp(broken, 1))
				for (at = 0; at < len; at += 4096) {
					(void)mapped[at];
					if (at % 12288 == 0)
						mapped[at] = 1;
				}
			munmap((void *)mapped, len);
		}
	}
	close(file);
}

static void use(const char *path, int depth)
{
	char list[4096], value[4096], *name;
	struct dirent *entry;
	struct stat status;
	ssize_t len;
	DIR *dir;

	if (++entries > ENTRIES_MAX || lstat(path, &status))
		return;
	len = llistxattr(path, list, sizeof(list));
	for (name = list; len > 0 && name < list + len; name += strlen(name) + 1)
		lgetxattr(path, name, value, sizeof(value));
	if (S_ISREG(status.st_mode)) {
		use_file(path);
	} else if (S_ISLNK(status.st_mode)) {
		(void)!readlink(path, value, sizeof(value));
		(void)!stat(path, &status);
	} else if (S_ISDIR(status.st_mode) && depth < DEPTH_MAX) {
		dir = opendir(path);
		while (dir && entries < ENTRIES_MAX && (entry = readdir(dir))) {
			char *below;

			if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
				continue;
			if (asprintf(&below, "%s/%s", path, entry->d_name) < 0)
				err(2, "memory");
			use(below, depth + 1);
			free(below);
		}
		if (dir)
			closedir(dir);
	}
}

static void *scribble(void *unused)
{
	uint64_t own = 88172645463325252ull;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		size_t at = next(&own) % metadata / 8 * 8;
		uint64_t old = load(at, 8);

		*(volatile uint64_t *)(memory + at) = next(&own) % 4 ? old ^ next(&own) : next(&own);
		*(volatile uint64_t *)(memory + at) = old;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	int validate = 0, scribbling = 0, rounds, round, mounted = 0, image, device, i;
	struct sigaction action = { .sa_handler = on_bus_error, .sa_flags = SA_NODEFER };
	char options[128];
	struct stat status;
	pthread_t thread;

	if (argc < 6)
		errx(2, "usage: storm IMAGE ADDRESS MOUNTPOINT ROUNDS SEED [validate] [scribble]");
	for (i = 6; i < argc; i++) {
		validate |= !strcmp(argv[i], "validate");
		scribbling |= !strcmp(argv[i], "scribble");
	}
	rounds = atoi(argv[4]);
	state = strtoull(argv[5], NULL, 0) * 2654435761u + 1;
	image = open(argv[1], O_RDONLY);
	device = open("/dev/mem", O_RDWR);
	if (image < 0 || device < 0 || fstat(image, &status))
		err(2, "%s or /dev/mem", argv[1]);
	size = status.st_size;
	pristine = malloc(size);
	if (pread(image, pristine, size, 0) != (ssize_t)size)
		err(2, "%s", argv[1]);
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, device,
		      strtoull(argv[2], NULL, 0));
	if (memory == MAP_FAILED)
		err(2, "/dev/mem");
	// Contents of files matter to nobody; they come last.
	metadata = size < 262144 ? size : 262144;
	sigaction(SIGBUS, &action, NULL);
	snprintf(options, sizeof(options), "phys=%s,size=%zu%s", argv[2], size,
		 validate ? ",validate" : "");
	for (round = 0; round < rounds; round++) {
		memcpy(memory, pristine, size);
		if (round)
			tamper();
		atomic_store(&stop, false);
		if (scribbling && pthread_create(&thread, NULL, scribble, NULL))
			errx(2, "no thread");
		entries = 0;
		if (!mount("none", argv[3], "daxfs", MS_RDONLY, options)) {
			mounted++;
			use(argv[3], 0);
			if (umount(argv[3]))
				err(1, "umount in round %d", round);
		} else if (round == 0 && !scribbling) {
			err(1, "the image as it is");
		}
		atomic_store(&stop, true);
		if (scribbling)
			pthread_join(thread, NULL);
	}
	printf("%d of %d mounted\n", mounted, rounds);
	return 0;
}
