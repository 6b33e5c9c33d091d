// SPDX-License-Identifier: Apache-2.0 OR MIT
// Shows a directory's mount at another place, with every owner moved up:
//
//     idmap DIRECTORY TARGET DISTANCE
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

// Maps ids 0 to 65535 of a process's user namespace to those that begin at `distance`.
static void map_ids(pid_t process, const char *kind, const char *distance)
{
	char path[64], map[64];
	int fd, length;

	snprintf(path, sizeof(path), "/proc/%d/%s", process, kind);
	length = snprintf(map, sizeof(map), "0 %s 65536", distance);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, map, length) != length)
		err(1, "%s", path);
	close(fd);
}

// A namespace lives as long as somebody is in it or has it open.
static int user_namespace(const char *distance)
{
	int ready[2], fd;
	char path[64];
	pid_t child;

	if (pipe(ready) || (child = fork()) < 0)
		err(1, "fork");
	if (!child) {
		if (unshare(CLONE_NEWUSER))
			err(1, "unshare");
		close(ready[0]);
		close(ready[1]);
		pause();
	}
	close(ready[1]);
	read(ready[0], path, 1);
	map_ids(child, "uid_map", distance);
	map_ids(child, "gid_map", distance);
	snprintf(path, sizeof(path), "/proc/%d/ns/user", child);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		err(1, "%s", path);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return fd;
}

int main(int argc, char **argv)
{
	struct mount_attr attributes = { .attr_set = MOUNT_ATTR_IDMAP };
	int tree;

	if (argc != 4)
		errx(2, "usage: idmap DIRECTORY TARGET DISTANCE");
	attributes.userns_fd = user_namespace(argv[3]);
	tree = open_tree(AT_FDCWD, argv[1], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		err(1, "open_tree %s", argv[1]);
	if (mount_setattr(tree, "", AT_EMPTY_PATH, &attributes, sizeof(attributes)))
		err(1, "mount_setattr");
	if (move_mount(tree, "", AT_FDCWD, argv[2], MOVE_MOUNT_F_EMPTY_PATH))
		err(1, "move_mount %s", argv[2]);
	return 0;
}
