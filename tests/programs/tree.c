// SPDX-License-Identifier: Apache-2.0 OR MIT
// Print everything that a tree shows, one line a name, in the order of the bytes of names:
//
//     tree DIRECTORY
//
// Sizes and link counts of directories are left out, as file systems count them differently. It
// fails at the first thing that cannot be read.
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

struct link {
	ino_t ino;
	char *path;
};

static struct link *links;
static size_t link_count;
static char buffer[1 << 20];

static uint64_t digest(uint64_t sum, const void *bytes, size_t len)
{
	const unsigned char *at = bytes;

	for (; len >= 8; at += 8, len -= 8) {
		uint64_t word;

		memcpy(&word, at, 8);
		sum = (sum ^ word) * 0x9e3779b97f4a7c15;
		sum ^= sum >> 29;
	}
	for (; len; at++, len--)
		sum = (sum ^ *at) * 0x100000001b3;
	return sum;
}

static uint64_t contents(const char *path)
{
	int file = open(path, O_RDONLY | O_NOFOLLOW);
	uint64_t sum = 1469598103934665603;
	ssize_t len;

	if (file < 0)
		err(1, "%s", path);
	while ((len = read(file, buffer, sizeof(buffer))) > 0)
		sum = digest(sum, buffer, len);
	if (len < 0)
		err(1, "%s: read", path);
	close(file);
	return sum;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void attributes(const char *path)
{
	char list[65536], *names[256], *name;
	ssize_t len = llistxattr(path, list, sizeof(list));
	int count = 0, i;

	for (name = list; len > 0 && name < list + len && count < 256; name += strlen(name) + 1)
		names[count++] = name;
	qsort(names, count, sizeof(*names), by_text);
	for (i = 0; i < count; i++) {
		len = lgetxattr(path, names[i], buffer, sizeof(buffer));
		if (len < 0)
			err(1, "%s: %s", path, names[i]);
		printf(" %s=%zd:%016jx", names[i], len, (uintmax_t)digest(1, buffer, len));
	}
}

// The first path under which a file with several names was seen.
static const char *leader(ino_t ino, const char *path)
{
	size_t i;

	for (i = 0; i < link_count; i++)
		if (links[i].ino == ino)
			return links[i].path;
	links = realloc(links, (link_count + 1) * sizeof(*links));
	links[link_count].ino = ino;
	links[link_count].path = strdup(path);
	return links[link_count++].path;
}

static void show(const char *path)
{
	struct stat status;

	if (lstat(path, &status))
		err(1, "%s", path);
	printf("%s %o %u:%u %lld.%09ld", path, status.st_mode, status.st_uid, status.st_gid,
	       (long long)status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
	if (!S_ISDIR(status.st_mode))
		printf(" %lld links %lu", (long long)status.st_size, (unsigned long)status.st_nlink);
	if (!S_ISDIR(status.st_mode) && status.st_nlink > 1)
		printf(" as %s", leader(status.st_ino, path));
	if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode))
		printf(" %u:%u", major(status.st_rdev), minor(status.st_rdev));
	if (S_ISREG(status.st_mode))
		printf(" %016jx", (uintmax_t)contents(path));
	if (S_ISLNK(status.st_mode)) {
		ssize_t len = readlink(path, buffer, sizeof(buffer));

		if (len < 0)
			err(1, "%s: readlink", path);
		printf(" -> %.*s", (int)len, buffer);
	}
	attributes(path);
	putchar('\n');
}

static void walk(const char *path)
{
	struct dirent **names;
	int count = scandir(path, &names, NULL, NULL), i;
	char **order;

	if (count < 0)
		err(1, "%s", path);
	order = malloc((count + 1) * sizeof(*order));
	for (i = 0; i < count; i++)
		order[i] = names[i]->d_name;
	qsort(order, count, sizeof(*order), by_text);
	for (i = 0; i < count; i++) {
		struct stat status;
		char *below;

		if (!strcmp(order[i], ".") || !strcmp(order[i], ".."))
			continue;
		if (asprintf(&below, "%s/%s", path, order[i]) < 0)
			err(1, "memory");
		show(below);
		if (!lstat(below, &status) && S_ISDIR(status.st_mode))
			walk(below);
		free(below);
	}
	for (i = 0; i < count; i++)
		free(names[i]);
	free(names);
	free(order);
}

int main(int argc, char **argv)
{
	if (argc != 2 || chdir(argv[1]))
		err(2, "usage: tree DIRECTORY");
	show(".");
	walk(".");
	return ferror(stdout) || fflush(stdout);
}
