// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
// handed_over LIBBPF BTF OBJECT...: the instructions of each program as this libbpf hands them to a kernel with these types.
//
// No kernel is asked: bpf() is answered here, and /sys/kernel/btf/vmlinux is the given file. Each program is loaded alone. Prints lines of
// object, program, libbpf's error (0 for none) and the instructions, separated by tabs. Built with: cc -rdynamic handed_over.c -ldl
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char KERNEL_TYPES[] = "/sys/kernel/btf/vmlinux";
static const char *types;
static const char *wanted;
static struct bpf_insn *insns;
static unsigned int count;

static const char *redirect(const char *path)
{
	return path && !strcmp(path, KERNEL_TYPES) ? types : path;
}

FILE *fopen(const char *path, const char *mode)
{
	FILE *(*real)(const char *, const char *) = dlsym(RTLD_NEXT, "fopen");

	return real(redirect(path), mode);
}

FILE *fopen64(const char *path, const char *mode)
{
	return fopen(path, mode);
}

int access(const char *path, int mode)
{
	int (*real)(const char *, int) = dlsym(RTLD_NEXT, "access");

	return real(redirect(path), mode);
}

static void keep(const union bpf_attr *attr)
{
	if (!wanted || strncmp(attr->prog_name, wanted, BPF_OBJ_NAME_LEN - 1))
		return;
	free(insns);
	count = attr->insn_cnt;
	insns = malloc(count * sizeof(*insns));
	memcpy(insns, (void *)(unsigned long)attr->insns, count * sizeof(*insns));
}

static long answer(int command, const union bpf_attr *attr)
{
	int fd;

	switch (command) {
	case BPF_MAP_CREATE:
		fd = memfd_create("map", 0);
		// Global data is mapped.
		return ftruncate(fd, 64 << 20) ? -1 : fd;
	case BPF_PROG_LOAD:
		keep(attr);
		return open("/dev/null", O_RDONLY);
	case BPF_BTF_LOAD:
		return open("/dev/null", O_RDONLY);
	case BPF_MAP_UPDATE_ELEM:
	case BPF_MAP_FREEZE:
	case BPF_PROG_BIND_MAP:
		return 0;
	default:
		errno = ENOENT;
		return -1;
	}
}

long syscall(long number, ...)
{
	static long (*real)(long, ...);
	long a[6];
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (number == __NR_bpf)
		return answer((int)a[0], (const union bpf_attr *)a[1]);
	if (!real)
		real = dlsym(RTLD_NEXT, "syscall");
	return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void *library;

// The names of libbpf 1, and of what came before.
static void *find(const char *name, const char *before)
{
	void *function = dlsym(library, name);

	if (!function && before)
		function = dlsym(library, before);
	if (!function) {
		fprintf(stderr, "this libbpf has no %s\n", name);
		exit(1);
	}
	return function;
}

static void *next_program(void *object, void *program)
{
	void *(*next)(void *, void *) = dlsym(library, "bpf_object__next_program");
	void *(*before)(void *, void *) = dlsym(library, "bpf_program__next");

	return next ? next(object, program) : before(program, object);
}

// Loads the program of that number alone. False: there is none.
static bool one(const char *path, int number)
{
	void *(*open_file)(const char *, void *) = find("bpf_object__open_file", NULL);
	long (*get_error)(const void *) = find("libbpf_get_error", NULL);
	int (*load)(void *) = find("bpf_object__load", NULL);
	void (*close_object)(void *) = find("bpf_object__close", NULL);
	const char *(*name_of)(void *) = find("bpf_program__name", NULL);
	int (*set_autoload)(void *, bool) = find("bpf_program__set_autoload", NULL);
	int (*set_target)(void *, int, const char *) = find("bpf_program__set_attach_target", NULL);
	int (*attach_type)(void *) = find("bpf_program__expected_attach_type", "bpf_program__get_expected_attach_type");
	void *object = open_file(path, NULL);
	long error = get_error(object);
	int i = 0;

	if (error) {
		printf("%s\t-\t%ld\t\n", path, error);
		return false;
	}
	wanted = NULL;
	for (void *p = next_program(object, NULL); p; p = next_program(object, p), i++) {
		set_autoload(p, i == number);
		if (i != number)
			continue;
		wanted = name_of(p);
		// Whether the function exists is not the question here.
		if (attach_type(p) == BPF_TRACE_FENTRY || attach_type(p) == BPF_TRACE_FEXIT)
			set_target(p, 0, "vfs_read");
	}
	if (wanted) {
		count = 0;
		error = load(object);
		printf("%s\t%s\t%ld\t", path, wanted, error);
		for (unsigned int n = 0; n < count * sizeof(*insns); n++)
			printf("%02x", ((unsigned char *)insns)[n]);
		printf("\n");
	}
	bool found = wanted;
	wanted = NULL;
	close_object(object);
	return found;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	types = argv[2];
	library = dlopen(argv[1], RTLD_NOW);
	if (!library) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	void (*set_print)(void *) = find("libbpf_set_print", NULL);

	if (!getenv("LOUD"))
		set_print(NULL);
	for (int i = 3; i < argc; i++)
		for (int number = 0; one(argv[i], number); number++)
			;
	return 0;
}
