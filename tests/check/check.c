/* SPDX-License-Identifier: MIT */
/* Framework of the kernel checker: guarded buffers, caught signals, comparison (check.h). */
#include "check.h"

#include <fenv.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CANARY        0xa5
#define PRINTED_FAILS 5

/* ---------------------------------------------------------------- cases */

void check_case(struct check *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(t->what, sizeof t->what, fmt, ap);
    va_end(ap);
    t->n_cases++;
}

void check_fail(struct check *t, const char *fmt, ...)
{
    if (++t->n_failures > PRINTED_FAILS && !t->verbose) return;
    va_list ap;
    va_start(ap, fmt);
    printf("FAIL %s [%s]: ", t->kernel->name, t->what);
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
}

/* -------------------------------------------------------------- buffers */

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static uint8_t *map_slot(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *p =
        mmap(NULL, CHECK_SLOT_BYTES + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) die("mmap");
    if (mprotect(p + page, CHECK_SLOT_BYTES, PROT_READ | PROT_WRITE)) die("mprotect");
    return p + page;
}

/* Watched bytes before and after the buffer; fewer where the unmapped page is nearer. */
static size_t canaries_before(const struct check_slot *s)
{
    size_t room = (size_t)(s->data - s->base);
    return room < CHECK_CANARY_BYTES ? room : CHECK_CANARY_BYTES;
}

static size_t canaries_after(const struct check_slot *s)
{
    size_t room = CHECK_SLOT_BYTES - s->size - (size_t)(s->data - s->base);
    return room < CHECK_CANARY_BYTES ? room : CHECK_CANARY_BYTES;
}

void *check_buffer(struct check *t, unsigned slot, const char *name, size_t size,
                   enum check_place place, size_t shift)
{
    if (slot >= CHECK_SLOTS || size > CHECK_SLOT_BYTES || shift > CHECK_SLOT_BYTES - size) {
        fprintf(stderr, "check_buffer: slot %u, %zu + %zu bytes: too large\n", slot, size, shift);
        exit(2);
    }
    struct check_slot *s = &t->slots[slot];
    if (!s->base) s->base = map_slot();
    if (s->readonly && mprotect(s->base, CHECK_SLOT_BYTES, PROT_READ | PROT_WRITE)) die("mprotect");
    s->readonly = false;
    s->name = name;
    s->size = size;
    s->data = s->base + (place == CHECK_START ? shift : CHECK_SLOT_BYTES - size - shift);

    size_t before = canaries_before(s);
    memset(s->data - before, CANARY, before + size + canaries_after(s));
    return s->data;
}

void check_readonly(struct check *t, unsigned slot)
{
    struct check_slot *s = &t->slots[slot];
    if (!s->base) return;
    if (mprotect(s->base, CHECK_SLOT_BYTES, PROT_READ)) die("mprotect");
    s->readonly = true;
}

void check_release(struct check *t)
{
    for (unsigned i = 0; i < CHECK_SLOTS; i++) t->slots[i].data = NULL;
}

static bool slot_intact(struct check *t, const struct check_slot *s)
{
    size_t before = canaries_before(s), after = canaries_after(s);
    for (size_t i = 1; i <= before; i++) {
        if (s->data[-(ptrdiff_t)i] == CANARY) continue;
        check_fail(t, "wrote %zu bytes before '%s'", i, s->name);
        return false;
    }
    for (size_t i = 0; i < after; i++) {
        if (s->data[s->size + i] == CANARY) continue;
        check_fail(t, "wrote byte %zu of '%s', which has %zu bytes", s->size + i, s->name, s->size);
        return false;
    }
    return true;
}

static bool all_intact(struct check *t)
{
    bool ok = true;
    for (unsigned i = 0; i < CHECK_SLOTS; i++) {
        if (t->slots[i].data && !slot_intact(t, &t->slots[i])) ok = false;
    }
    return ok;
}

/* -------------------------------------------------------------- signals */

static sigjmp_buf call_escape, kernel_escape; /* out of check_call, out of check_kernel */
static volatile sig_atomic_t in_call, in_kernel;
static void *volatile fault_address;

static const int caught[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
#define N_CAUGHT (sizeof caught / sizeof *caught)

static void on_signal(int sig, siginfo_t *info, void *context)
{
    (void)context;
    fault_address = info->si_addr;
    if (in_call) siglongjmp(call_escape, sig);
    if (in_kernel) siglongjmp(kernel_escape, sig);
    signal(sig, SIG_DFL); /* our own: die of it */
}

/* Says in which buffer's neighbourhood an address lies. */
static void describe_fault(const struct check *t, const uint8_t *p, char *text, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (unsigned i = 0; i < CHECK_SLOTS; i++) {
        const struct check_slot *s = &t->slots[i];
        if (!s->data || p < s->base - page || p >= s->base + CHECK_SLOT_BYTES + page) continue;
        ptrdiff_t from_start = p - s->data, from_end = from_start - (ptrdiff_t)s->size;
        if (from_start < 0) {
            snprintf(text, n, "%td bytes before the start of '%s'", -from_start, s->name);
        } else if (from_end >= 0) {
            snprintf(text, n, "%td bytes past the end of '%s' (%zu bytes)", from_end, s->name,
                     s->size);
        } else {
            snprintf(text, n, "inside '%s' at byte %td%s", s->name, from_start,
                     s->readonly ? ", an input" : "");
        }
        return;
    }
    if (p)
        snprintf(text, n, "address %p", (const void *)p);
    else
        snprintf(text, n, "address 0 or a misaligned operand");
}

/* Rounding mode, FTZ and DAZ; on ARM all of FPCR. */
static unsigned fp_mode(void)
{
#if defined(__x86_64__)
    return (unsigned)__builtin_ia32_stmxcsr() & 0xffc0U;
#elif defined(__aarch64__)
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return (unsigned)fpcr;
#else
    return (unsigned)fegetround();
#endif
}

static void set_handlers(struct sigaction old[N_CAUGHT])
{
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = on_signal;
    sa.sa_flags = SA_SIGINFO;
    for (size_t i = 0; i < N_CAUGHT; i++) sigaction(caught[i], &sa, &old[i]);
}

static void report_signal(struct check *t, int sig, const char *who)
{
    char where[160];
    describe_fault(t, fault_address, where, sizeof where);
    check_fail(t, "%ssignal %d (%s), %s", who, sig, strsignal(sig), where);
}

bool check_call(struct check *t, void (*fn)(void *), void *arg)
{
    unsigned mode = fp_mode();
    int sig = sigsetjmp(call_escape, 1);
    if (!sig) {
        in_call = 1;
        fn(arg);
    }
    in_call = 0;
    if (sig) report_signal(t, sig, "");
    bool ok = !sig;
    if (fp_mode() != mode) {
        check_fail(t, "floating-point mode was 0x%x and is now 0x%x", mode, fp_mode());
        fesetenv(FE_DFL_ENV);
        ok = false;
    }
    return all_intact(t) && ok;
}

void check_kernel(struct check *t, check_fn check, const struct tr_kernel *k,
                  const struct tr_kernel *ref)
{
    struct sigaction old[N_CAUGHT];

    set_handlers(old);
    int sig = sigsetjmp(kernel_escape, 1);
    if (!sig) {
        in_kernel = 1;
        check(t, k, ref);
    }
    in_kernel = 0;
    if (sig) report_signal(t, sig, "not in the kernel, but in its reference or its check: ");
    for (size_t i = 0; i < N_CAUGHT; i++) sigaction(caught[i], &old[i], NULL);
}

/* ----------------------------------------------------------- comparison */

bool check_bytes(struct check *t, const char *name, const void *got, const void *want, size_t n)
{
    if (!memcmp(got, want, n)) return true;
    const uint8_t *g = got, *w = want;
    size_t i = 0, differ = 0;
    while (g[i] == w[i]) i++;
    for (size_t j = i; j < n; j++) differ += g[j] != w[j];
    check_fail(t, "%s: %zu of %zu bytes differ, first at %zu: 0x%02x instead of 0x%02x", name,
               differ, n, i, g[i], w[i]);
    return false;
}

static bool same_float(float a, float b)
{
    return !memcmp(&a, &b, sizeof a) || (isnan(a) && isnan(b));
}

bool check_floats(struct check *t, const char *name, const float *got, const float *want, size_t n)
{
    size_t i = 0, differ = 0;
    while (i < n && same_float(got[i], want[i])) i++;
    if (i == n) return true;
    for (size_t j = i; j < n; j++) differ += !same_float(got[j], want[j]);
    check_fail(t, "%s: %zu of %zu floats differ, first at %zu: %.9g (%a) instead of %.9g (%a)",
               name, differ, n, i, (double)got[i], (double)got[i], (double)want[i],
               (double)want[i]);
    return false;
}
