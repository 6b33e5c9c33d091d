// SPDX-License-Identifier: Apache-2.0 OR MIT
// One check of what a file on a read-only file system in memory can do:
//
//     probe CHECK FILE [ARGUMENT]
//
// Exit status 0 if it holds; otherwise it says what does not.
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition) \
	do { if (!(condition)) err(1, "%s, line %d", #condition, __LINE__); } while (0)

static int file;
static size_t size;
static char *content;

static long faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

static char *map(int protection, int flags)
{
	char *memory = mmap(NULL, size, protection, flags, file, 0);

	CHECK(memory != MAP_FAILED);
	return memory;
}

static int kernel_is_since(int major, int minor)
{
	struct utsname name;
	int found[2] = { 0 };

	CHECK(!uname(&name) && sscanf(name.release, "%d.%d", &found[0], &found[1]) == 2);
	return found[0] > major || (found[0] == major && found[1] >= minor);
}

// Lets a mapping's pages go. Since 6.15 the kernel refuses it where they may be huge.
static void drop(void *memory, size_t len)
{
	CHECK(!madvise(memory, len, MADV_DONTNEED) || (errno == EINVAL && kernel_is_since(6, 15)));
}

// A shared mapping shows what reading does.
static void shared(const char *argument)
{
	char *memory = map(PROT_READ, MAP_SHARED);

	CHECK(!memcmp(memory, content, size));
	CHECK(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) == MAP_FAILED);
	CHECK(mprotect(memory, size, PROT_READ | PROT_WRITE) < 0);
	CHECK(!munmap(memory, size));
}

// Stores to a private mapping stay there, whichever page and whatever was mapped before.
static void private(const char *argument)
{
	char *touched = map(PROT_READ | PROT_WRITE, MAP_PRIVATE);
	char *fresh = map(PROT_READ | PROT_WRITE, MAP_PRIVATE);
	char *original = map(PROT_READ, MAP_SHARED);
	size_t at;
	pid_t child;
	int status;

	CHECK(!memcmp(touched, content, size));
	for (at = 0; at < size; at += 3 * 4096 + 7) {
		touched[at] ^= 0x5a;
		fresh[at] ^= 0xa5;
	}
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		for (at = 0; at < size; at += 4096)
			touched[at] ^= 0xff;
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && !status);
	for (at = 0; at < size; at++) {
		int changed = at % (3 * 4096 + 7) == 0;

		CHECK(touched[at] == (char)(content[at] ^ (changed ? 0x5a : 0)));
		CHECK(fresh[at] == (char)(content[at] ^ (changed ? 0xa5 : 0)));
	}
	CHECK(!memcmp(original, content, size));
}

// Part of a mapping unmapped, moved, forked, locked and populated.
static void torn(const char *argument)
{
	char *memory = map(PROT_READ, MAP_SHARED | MAP_POPULATE), *moved;
	size_t half = size / 2 / 4096 * 4096;
	pid_t child;
	int status;

	CHECK(!memcmp(memory, content, size));
	CHECK(!munmap(memory + 4096, 4096));
	CHECK(!memcmp(memory + 8192, content + 8192, size - 8192));
	moved = mremap(memory + half, size - half, size - half, MREMAP_MAYMOVE | MREMAP_FIXED,
		       memory + 64 * 1024 * 1024 + 4096);
	CHECK(moved != MAP_FAILED && !memcmp(moved, content + half, size - half));
	child = fork();
	CHECK(child >= 0);
	if (!child)
		_exit(memcmp(moved, content + half, size - half) ? 1 : 0);
	CHECK(waitpid(child, &status, 0) == child && !status);
	mlock(moved, 4096);
	drop(moved, size - half);
	CHECK(!memcmp(moved, content + half, size - half));
}

// Touching every page faults no more often than the argument says.
static void fault_count(const char *argument)
{
	volatile char *memory = map(PROT_READ, MAP_SHARED);
	long before = faults();
	size_t at;

	for (at = 0; at < size; at += 4096)
		(void)memory[at];
	before = faults() - before;
	printf("%ld faults\n", before);
	if (before > atol(argument))
		errx(1, "%ld faults, at most %s", before, argument);
}

static long page_tables(void)
{
	char line[256];
	long kilobytes = -1;
	FILE *status = fopen("/proc/self/status", "r");

	while (fgets(line, sizeof(line), status))
		sscanf(line, "VmPTE: %ld kB", &kilobytes);
	fclose(status);
	return kilobytes;
}

// Touching every page needs no page tables but for what is not a whole 2 MiB.
static void huge(const char *argument)
{
	volatile char *memory = map(PROT_READ, MAP_SHARED);
	long before = page_tables(), grown;
	size_t at;

	for (at = 0; at < size; at += 4096)
		(void)memory[at];
	grown = page_tables() - before;
	CHECK(size >= 16 << 20);
	if (grown > 12)
		errx(1, "%ld KiB of page tables for %zu bytes", grown, size);
}

// Whoever walks page tables finds entries there that it can look at.
static void walked(const char *argument)
{
	volatile char *memory = map(PROT_READ, MAP_SHARED);
	unsigned long nodes = 1;
	uint64_t entries[1024];
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	int references = open("/proc/self/clear_refs", O_WRONLY);
	size_t at, page;
	char line[4096];
	FILE *lines;

	for (at = 0; at < size; at += 4096)
		(void)memory[at];
	page = (uintptr_t)memory / 4096;
	CHECK(pread(pagemap, entries, sizeof(entries), page * sizeof(*entries)) == sizeof(entries));
	CHECK(write(references, "1", 1) == 1);
	CHECK(write(references, "4", 1) == 1);
	lines = fopen("/proc/self/smaps", "r");
	while (fgets(line, sizeof(line), lines))
		;
	fclose(lines);
	// What it says is the kernel's business.
	syscall(SYS_mbind, memory, size, MPOL_BIND, &nodes, 8, MPOL_MF_STRICT);
	syscall(SYS_mbind, memory, size, MPOL_BIND, &nodes, 8, MPOL_MF_STRICT | MPOL_MF_MOVE);
	for (at = 0; at < size; at += 4096)
		CHECK(memory[at] == content[at]);
}

static char *raced;
static volatile int racing;

static void *read_raced(void *argument)
{
	volatile char *memory = raced;
	size_t at;

	while (racing)
		for (at = 0; at < 2 << 20; at += 37 * 4096)
			(void)memory[at];
	return NULL;
}

// Pages are copied for writing while others are mapped for reading, which may be 2 MiB at a time.
static void race(const char *argument)
{
	pthread_t readers[2];
	char *original = map(PROT_READ, MAP_SHARED);
	unsigned int state = 1;
	int i;

	raced = map(PROT_READ | PROT_WRITE, MAP_PRIVATE);
	racing = 1;
	for (i = 0; i < 2; i++)
		CHECK(!pthread_create(&readers[i], NULL, read_raced, NULL));
	for (i = 0; i < atoi(argument); i++) {
		size_t at;

		CHECK(!madvise(raced, 2 << 20, MADV_DONTNEED));
		state = state * 1103515245 + 12345;
		at = (state >> 8) % 512 * 4096 + state % 7;
		raced[at] = ~content[at];
		CHECK(raced[at] == (char)~content[at]);
	}
	racing = 0;
	for (i = 0; i < 2; i++)
		CHECK(!pthread_join(readers[i], NULL));
	CHECK(!memcmp(original, content, size));
}

static void *drop_raced(void *argument)
{
	while (racing)
		CHECK(!madvise(raced, 2 << 20, MADV_DONTNEED));
	return NULL;
}

// A system call reads from a mapping however often others let its pages go.
static void dropped(const char *argument)
{
	void *(*const others[])(void *) = { read_raced, drop_raced };
	pthread_t threads[2];
	int pipes[2], i;
	char copy[64];

	raced = map(PROT_READ, MAP_PRIVATE);
	racing = 1;
	CHECK(!pipe(pipes));
	for (i = 0; i < 2; i++)
		CHECK(!pthread_create(&threads[i], NULL, others[i], NULL));
	for (i = 0; i < atoi(argument); i++) {
		size_t at = i * 11 % 512 * 4096;

		CHECK(write(pipes[1], raced + at, sizeof(copy)) == sizeof(copy));
		CHECK(read(pipes[0], copy, sizeof(copy)) == sizeof(copy));
		CHECK(!memcmp(copy, content + at, sizeof(copy)));
	}
	racing = 0;
	for (i = 0; i < 2; i++)
		CHECK(!pthread_join(threads[i], NULL));
}

// Beyond the file's last page there is nothing.
static void beyond(const char *argument)
{
	volatile char *memory = mmap(NULL, size + 3 * 4096, PROT_READ, MAP_SHARED, file, 0);
	pid_t child = fork();
	int status;

	if (!child) {
		(void)memory[(size + 4095) / 4096 * 4096];
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	CHECK(memory[size - 1] == content[size - 1]);
}

static void seeking(const char *argument)
{
	CHECK(lseek(file, 0, SEEK_DATA) == 0);
	CHECK(lseek(file, 0, SEEK_HOLE) == (off_t)size);
	CHECK(lseek(file, size, SEEK_DATA) < 0 && errno == ENXIO);
	CHECK(lseek(file, 0, SEEK_END) == (off_t)size);
	CHECK(pread(file, content, 10, size) == 0);
}

// What is only read is always safe; sync(1), for one, asks for it all the same.
static void synced(const char *argument)
{
	char path[64], name[4096];
	ssize_t len;
	int directory;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	len = readlink(path, name, sizeof(name) - 1);
	CHECK(len > 0);
	name[len] = 0;
	*strrchr(name, '/') = 0;
	directory = open(name, O_RDONLY | O_DIRECTORY);
	CHECK(directory >= 0);
	CHECK(!fsync(file) && !fdatasync(file));
	CHECK(!fsync(directory) && !syncfs(directory));
}

// Nobody opens the file for writing, so whoever wants a lease on what is read gets one.
static void leased(const char *argument)
{
	CHECK(fcntl(file, F_GETLEASE) == F_UNLCK);
	CHECK(!fcntl(file, F_SETLEASE, F_RDLCK));
	CHECK(fcntl(file, F_GETLEASE) == F_RDLCK);
	CHECK(!fcntl(file, F_SETLEASE, F_UNLCK));
}

static void moving(const char *argument)
{
	int pipes[2], other = memfd_create("copy", 0);
	off_t offset = 0, in = 0;
	size_t done = 0;
	char *copy;

	CHECK(other >= 0 && !pipe(pipes));
	while (done < size) {
		ssize_t step = splice(file, &in, pipes[1], NULL, 65536, 0);

		CHECK(step > 0);
		CHECK(splice(pipes[0], NULL, other, NULL, step, 0) == step);
		done += step;
	}
	while ((size_t)offset < size)
		CHECK(sendfile(other, file, &offset, size) > 0);
	copy = mmap(NULL, 2 * size, PROT_READ, MAP_SHARED, other, 0);
	CHECK(copy != MAP_FAILED);
	CHECK(!memcmp(copy, content, size) && !memcmp(copy + size, content, size));
}

static void advice(const char *argument)
{
	char *memory = map(PROT_READ, MAP_SHARED);
	int kinds[] = { MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED };
	size_t i;

	CHECK(!readahead(file, 0, size));
	for (i = 0; i < 6; i++)
		CHECK(!posix_fadvise(file, 0, size, i));
	for (i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		CHECK(!madvise(memory, size, kinds[i]));
	CHECK(!memcmp(memory, content, size));
	drop(memory, size);
	CHECK(!memcmp(memory, content, size));
}

// Reading past the cache, which is not there: any offset and length will do.
static void direct(const char *argument)
{
	char path[64], *copy = malloc(size);
	int other;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	other = open(path, O_RDONLY | O_DIRECT);
	CHECK(other >= 0);
	CHECK(pread(other, copy, size - 1, 1) == (ssize_t)size - 1);
	CHECK(!memcmp(copy, content + 1, size - 1));
}

// Reading never waits: all of it is there for who cannot wait.
static void at_once(const char *argument)
{
	char *copy = malloc(size);
	struct iovec to = { copy, size };

	CHECK(preadv2(file, &to, 1, 0, RWF_NOWAIT) == (ssize_t)size);
	CHECK(!memcmp(copy, content, size));
}

// A bad buffer is the caller's mistake, whole or in part.
static void bad_buffer(const char *argument)
{
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *volatile bad = NULL;

	CHECK(pread(file, bad, 100, 0) < 0 && errno == EFAULT);
	CHECK(!mprotect(pages + 4096, 4096, PROT_NONE));
	CHECK(pread(file, pages + 4000, 200, 0) == 96);
}

// Another process' mapping is read as a debugger does.
static void debugged(const char *argument)
{
	char *memory = map(PROT_READ, MAP_SHARED);
	pid_t child = fork();
	char path[64], copy[4096];
	int status, other, i;

	if (!child) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	snprintf(path, sizeof(path), "/proc/%d/mem", child);
	other = open(path, O_RDONLY);
	CHECK(pread(other, copy, sizeof(copy), (off_t)(uintptr_t)memory) == sizeof(copy));
	CHECK(!memcmp(copy, content, sizeof(copy)));
	kill(child, SIGKILL);

	// Across pages of a private mapping, and its end, everybody sees what is there.
	memory = map(PROT_READ | PROT_WRITE, MAP_PRIVATE);
	memset(memory + 4096, 0x5a, 4096);
	CHECK(mmap(memory + 3 * 4096, 4096, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
	memset(memory + 3 * 4096, 0x77, 4096);
	other = open("/proc/self/mem", O_RDONLY);
	for (i = 0; i < 3; i++) {
		off_t at = (off_t)(uintptr_t)memory + i * 4096 + 2048;

		CHECK(pread(other, copy, sizeof(copy), at) == sizeof(copy));
		CHECK(!memcmp(copy, memory + i * 4096 + 2048, sizeof(copy)));
	}
}

// Direct I/O from a mapping into another file, which takes the pages themselves.
static void pinned(const char *argument)
{
	char *memory = map(PROT_READ, MAP_SHARED), *copy;
	size_t len = size / 4096 * 4096;
	int other = open(argument, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);

	CHECK(other >= 0);
	CHECK(pwrite(other, memory, len, 0) == (ssize_t)len);
	CHECK(posix_memalign((void **)&copy, 4096, len) == 0);
	CHECK(pread(other, copy, len, 0) == (ssize_t)len);
	CHECK(!memcmp(copy, content, len));
}

// The same where there are no pages: an error, and nothing worse.
static void unpinned(const char *argument)
{
	char *memory = map(PROT_READ, MAP_SHARED);
	int other = open(argument, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
	struct iovec from = { memory, 65536 };
	int pipes[2];

	CHECK(other >= 0 && !pipe(pipes));
	CHECK(!memcmp(memory, content, size));
	CHECK(pwrite(other, memory, 65536, 0) < 0);
	CHECK(vmsplice(pipes[1], &from, 1, 0) < 0);
}

// A handle outlives the caches.
static void handle(const char *argument)
{
	struct file_handle *handle = malloc(sizeof(*handle) + MAX_HANDLE_SZ);
	char path[64], byte;
	int mount, caches = open("/proc/sys/vm/drop_caches", O_WRONLY), other;
	int directory = open(argument, O_RDONLY | O_DIRECTORY);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	handle->handle_bytes = MAX_HANDLE_SZ;
	CHECK(!name_to_handle_at(AT_FDCWD, path, handle, &mount, AT_SYMLINK_FOLLOW));
	close(file);
	CHECK(write(caches, "2\n", 2) == 2);
	other = open_by_handle_at(directory, handle, O_RDONLY);
	CHECK(other >= 0);
	CHECK(pread(other, &byte, 1, size - 1) == 1 && byte == content[size - 1]);
	((uint32_t *)handle->f_handle)[1] += 1;
	CHECK(open_by_handle_at(directory, handle, O_RDONLY) < 0 && errno == ESTALE);
	handle->f_handle[0] = handle->f_handle[1] = handle->f_handle[2] = 0xff;
	CHECK(open_by_handle_at(directory, handle, O_RDONLY) < 0 && errno == ESTALE);
}

// The page in the middle failed: SIGBUS there, nothing for the others.
static void broken(const char *argument)
{
	volatile char *memory = map(PROT_READ, MAP_SHARED);
	size_t page = size / 2 / 4096 * 4096, at;
	pid_t child;
	int status;

	for (at = 0; at < size; at += 4096)
		if (at != page)
			CHECK(memory[at] == content[at]);
	child = fork();
	if (!child) {
		(void)memory[page];
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

// Has the kernel take a page of a file for one that failed, wherever it is mapped. Only private
// mappings show which page of the memory it is on every kernel.
static void fail(int file, size_t offset)
{
	volatile char *memory = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, offset);
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	int offline = open("/sys/devices/system/memory/hard_offline_page", O_WRONLY);
	uint64_t entry;

	CHECK(memory != MAP_FAILED && pagemap >= 0 && offline >= 0);
	(void)*memory;
	CHECK(pread(pagemap, &entry, sizeof(entry), (uintptr_t)memory / 4096 * sizeof(entry)) ==
	      sizeof(entry));
	CHECK(dprintf(offline, "%#llx", (entry & ((1ULL << 55) - 1)) * 4096ULL) > 0);
	CHECK(!munmap((char *)memory, 4096));
	close(offline);
	close(pagemap);
}

// Memory that fails.
static void poisoned(const char *argument)
{
	volatile char *memory = map(PROT_READ, MAP_SHARED);
	size_t page = size / 2 / 4096 * 4096;

	(void)memory[page];
	fail(file, page);
	broken(argument);
}

// What was written to a private mapping stays when memory fails, here in the file and in another.
static void kept(const char *argument)
{
	char *own = map(PROT_READ | PROT_WRITE, MAP_PRIVATE), *others;
	int other = open(argument, O_RDONLY);

	own[0] ^= 0x5a;
	own[4096] ^= 0x5a;
	CHECK(other >= 0);
	others = mmap(NULL, 4096, PROT_READ, MAP_SHARED, other, 0);
	CHECK(others != MAP_FAILED);
	(void)*(volatile char *)others;
	fail(other, 0);
	poisoned(argument);
	CHECK(own[0] == (char)(content[0] ^ 0x5a) && own[4096] == (char)(content[4096] ^ 0x5a));
	CHECK(own[1] == content[1] && own[8192] == content[8192]);
}

static pthread_barrier_t start;

static void *look(void *path)
{
	struct stat status;

	pthread_barrier_wait(&start);
	return stat(path, &status) ? path : NULL;
}

// Many look at once for names in the directory of the argument, where nobody has looked before.
static void crowd(const char *argument)
{
	enum { MANY = 32 };
	DIR *directory = opendir(argument);
	char paths[MANY][512];
	pthread_t threads[MANY];
	struct dirent *entry;
	void *failed;
	int i = 0;

	CHECK(directory);
	while (i < MANY && (entry = readdir(directory)))
		if (entry->d_name[0] != '.')
			snprintf(paths[i++], sizeof(paths[0]), "%s/%s", argument, entry->d_name);
	CHECK(i == MANY);
	CHECK(!pthread_barrier_init(&start, NULL, MANY));
	for (i = 0; i < MANY; i++)
		CHECK(!pthread_create(&threads[i], NULL, look, paths[i]));
	for (i = 0; i < MANY; i++) {
		CHECK(!pthread_join(threads[i], &failed));
		if (failed)
			errx(1, "%s is not found", (char *)failed);
	}
}

// Once the command in the argument has run, nothing is served any more.
static void gone(const char *argument)
{
	volatile char *memory = map(PROT_READ, MAP_SHARED);
	pid_t child;
	char byte;
	int status;

	CHECK(memory[0] == content[0]);
	CHECK(!system(argument));
	CHECK(pread(file, &byte, 1, 0) < 0 && errno == EIO);
	child = fork();
	if (!child) {
		(void)memory[0];
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

// Who is killed in the middle of a long read does not read on. It may have been too quick for us.
static void killed(const char *argument)
{
	char *buffer = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	volatile char *last = buffer + size - 1;
	int tries, status;
	pid_t child;

	CHECK(buffer != MAP_FAILED && content[0] && content[size - 1]);
	for (tries = 0; tries < 20; tries++) {
		memset(buffer, 0, size);
		child = fork();
		CHECK(child >= 0);
		if (!child)
			_exit(pread(file, buffer, size, 0) == (ssize_t)size ? 0 : 1);
		while (!*(volatile char *)buffer)
			continue;
		kill(child, SIGKILL);
		CHECK(waitpid(child, &status, 0) == child);
		if (!*last)
			return;
	}
	errx(1, "a read that was killed went on to its end");
}

static const struct {
	const char *name;
	void (*run)(const char *argument);
} checks[] = {
	{ "shared", shared }, { "private", private }, { "torn", torn },
	{ "faults", fault_count }, { "beyond", beyond }, { "seeking", seeking },
	{ "moving", moving }, { "advice", advice }, { "direct", direct },
	{ "at-once", at_once }, { "leased", leased },
	{ "synced", synced },
	{ "bad-buffer", bad_buffer }, { "debugged", debugged }, { "pinned", pinned },
	{ "unpinned", unpinned }, { "huge", huge }, { "handle", handle },
	{ "poisoned", poisoned }, { "broken", broken }, { "kept", kept },
	{ "crowd", crowd }, { "gone", gone }, { "walked", walked }, { "race", race },
	{ "dropped", dropped }, { "killed", killed },
};

int main(int argc, char **argv)
{
	struct stat status;
	size_t i, done = 0;

	if (argc < 3)
		errx(2, "usage: probe CHECK FILE [ARGUMENT]");
	file = open(argv[2], O_RDONLY);
	CHECK(file >= 0 && !fstat(file, &status));
	size = status.st_size;
	content = malloc(size);
	while (done < size) {
		ssize_t len = pread(file, content + done, size - done, done);

		CHECK(len > 0);
		done += len;
	}
	for (i = 0; i < sizeof(checks) / sizeof(*checks); i++)
		if (!strcmp(checks[i].name, argv[1])) {
			checks[i].run(argc > 3 ? argv[3] : NULL);
			return 0;
		}
	errx(2, "%s: no such check", argv[1]);
}
