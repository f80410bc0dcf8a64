// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/* One function whose calls are all calls, one that is inlined in one place of two, one everywhere. */
#define INLINE static inline __attribute__((always_inline))

volatile int sink;

__attribute__((noinline)) void never(int n)
{
	sink = n;
}

INLINE void everywhere(int n)
{
	sink = n + 1;
}

void partly(int n)
{
	everywhere(n);
	sink = n * 3;
}

/* The compiler copies the body here, and the pointer keeps the function. */
void (*kept)(int) = partly;

void caller(int n)
{

	never(n);
	everywhere(n);
	partly(n);
}
