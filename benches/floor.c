// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * The floor: what reading a tree into one file costs with nothing else done.
 *
 *     floor DIRECTORY OUTPUT
 *
 * A plain single-threaded loop: walk, stat, open, read to the end, write, in pieces of at most
 * 1 MiB. Names are resolved relative to their directory, as tar does it; whole paths would make
 * the floor slower and flatter everybody compared with it. No metadata is written.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE (1 << 20)

static char piece[PIECE];

static void write_all(int output, const char *bytes, size_t count)
{
	while (count > 0) {
		ssize_t written = write(output, bytes, count);

		if (written < 0)
			err(1, "write");
		bytes += written;
		count -= written;
	}
}

static void copy_file(int directory, const char *name, int output)
{
	int input = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t count;

	if (input < 0)
		err(1, "open %s", name);
	while ((count = read(input, piece, sizeof(piece))) > 0)
		write_all(output, piece, count);
	if (count < 0)
		err(1, "read %s", name);
	close(input);
}

/* Takes over the descriptor. */
static void copy_directory(int directory, int output)
{
	DIR *stream = fdopendir(directory);
	struct dirent *entry;

	if (!stream)
		err(1, "fdopendir");
	while ((entry = readdir(stream))) {
		const char *name = entry->d_name;
		struct stat status;

		if (!strcmp(name, ".") || !strcmp(name, ".."))
			continue;
		if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW))
			err(1, "stat %s", name);
		if (S_ISDIR(status.st_mode)) {
			int inner = openat(directory, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			if (inner < 0)
				err(1, "open %s", name);
			copy_directory(inner, output);
		} else if (S_ISREG(status.st_mode)) {
			copy_file(directory, name, output);
		}
	}
	closedir(stream);
}

int main(int count, char **arguments)
{
	int directory, output;

	if (count != 3)
		errx(2, "usage: floor DIRECTORY OUTPUT");
	directory = open(arguments[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		err(1, "open %s", arguments[1]);
	output = open(arguments[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (output < 0)
		err(1, "open %s", arguments[2]);
	copy_directory(directory, output);
	if (close(output))
		err(1, "close %s", arguments[2]);
	return 0;
}
