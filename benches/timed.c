// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * Runs a command and writes what it used to a file: wall time in nanoseconds, user and system
 * time in microseconds, peak resident memory in KiB, and the wait status.
 *
 *     timed REPORT COMMAND [ARGUMENT...]
 *
 * It exists because a process inherits, in ru_maxrss, the peak of the process that started it:
 * started from Python, nothing would seem to use less memory than Python does.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static long long nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static long long microseconds(struct timeval time)
{
	return time.tv_sec * 1000000LL + time.tv_usec;
}

int main(int count, char **arguments)
{
	struct rusage used;
	long long start, wall;
	int status;
	FILE *report;
	pid_t child;

	if (count < 3)
		errx(2, "usage: timed REPORT COMMAND [ARGUMENT...]");
	report = fopen(arguments[1], "we");
	if (!report)
		err(2, "%s", arguments[1]);
	start = nanoseconds();
	errno = posix_spawnp(&child, arguments[2], NULL, NULL, arguments + 2, environ);
	if (errno)
		err(2, "%s", arguments[2]);
	if (wait4(child, &status, 0, &used) < 0)
		err(2, "wait4");
	wall = nanoseconds() - start;
	fprintf(report, "%lld %lld %lld %ld %d\n", wall, microseconds(used.ru_utime),
		microseconds(used.ru_stime), used.ru_maxrss, status);
	return fclose(report) ? 2 : 0;
}
