/* Waiting for the other threads of a parallel region. */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPINS = 3000 }; /* about 50 us, longer than threads wait for each other on an idle machine */

/* A barrier that spins briefly and then sleeps. OpenMP's own spins for milliseconds; on a busy machine that keeps the
 * processor from the very thread that is waited for, and a step takes three times as long. */
typedef struct {
    int arrived, turn, asleep;
} barrier;

static void wait_for_all(barrier *all) {
    int turn = __atomic_load_n(&all->turn, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&all->arrived, 1, __ATOMIC_ACQ_REL) == omp_get_num_threads()) {
        __atomic_store_n(&all->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&all->turn, turn + 1, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&all->asleep, __ATOMIC_SEQ_CST))
            syscall(SYS_futex, &all->turn, FUTEX_WAKE_PRIVATE, 1 << 30, 0, 0, 0);
        return;
    }
    for (int i = 0; i < SPINS; i++) {
        if (__atomic_load_n(&all->turn, __ATOMIC_ACQUIRE) != turn) return;
#if defined __x86_64__
        __builtin_ia32_pause();
#elif defined __aarch64__
        __asm__ volatile("isb");
#endif
    }
    __atomic_add_fetch(&all->asleep, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&all->turn, __ATOMIC_SEQ_CST) == turn)
        syscall(SYS_futex, &all->turn, FUTEX_WAIT_PRIVATE, turn, 0, 0, 0);
    __atomic_sub_fetch(&all->asleep, 1, __ATOMIC_SEQ_CST);
}

/* Threads that share the parts of a job with its caller. OpenMP's own spin for milliseconds after each job, which takes the processor from
 * other work of this process; these sleep. A part is taken by a thread that runs, so the caller never waits for one to begin: if
 * the other processors are busy, it does all parts by itself. */
#include <pthread.h>
#include <signal.h>

enum { MAX_HELPERS = 31 };

static struct {
    pthread_mutex_t in_use;
    int process, helpers, turn, left; /* `turn` changes with each job; `left` parts are not complete */
    uint64_t next;                    /* the turn, and in the lower half the next part */
    long parts;
    void (*work)(const void *argument, long part);
    const void *argument;
} crew = {PTHREAD_MUTEX_INITIALIZER};

/* Do parts of the present job until all are taken. */
static void do_parts(void) {
    uint64_t next = __atomic_load_n(&crew.next, __ATOMIC_ACQUIRE);
    for (;;) {
        /* These stay as they are while a part of the turn is left; if the exchange fails, they are read again. */
        long part = next & 0xFFFFFFFF, parts = __atomic_load_n(&crew.parts, __ATOMIC_RELAXED);
        void (*work)(const void *, long) = __atomic_load_n(&crew.work, __ATOMIC_RELAXED);
        const void *argument = __atomic_load_n(&crew.argument, __ATOMIC_RELAXED);
        if (part >= parts) return;
        if (!__atomic_compare_exchange_n(&crew.next, &next, next + 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) continue;
        work(argument, part);
        if (__atomic_sub_fetch(&crew.left, 1, __ATOMIC_ACQ_REL) == 0)
            syscall(SYS_futex, &crew.left, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
        next = __atomic_load_n(&crew.next, __ATOMIC_ACQUIRE);
    }
}

static void *help(void *nothing) {
    for (;;) {
        int turn = __atomic_load_n(&crew.turn, __ATOMIC_ACQUIRE);
        do_parts();
        syscall(SYS_futex, &crew.turn, FUTEX_WAIT_PRIVATE, turn, 0, 0, 0);
    }
    return nothing;
}

/* Have at least so many helpers, or as many as can be started. In a forked process those of its parent are gone. */
static void start_helpers(int count) {
    if (crew.process != getpid()) crew.process = getpid(), crew.helpers = 0;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (pthread_t thread; crew.helpers < count && !pthread_create(&thread, 0, help, 0); crew.helpers++)
        pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &before, 0);
}

/* work(argument, part) for all parts, each in this thread or in another. While another thread shares a job, this one does its own
 * alone. */
static void share_parts(long parts, void (*work)(const void *, long), const void *argument) {
    if (parts == 1 || pthread_mutex_trylock(&crew.in_use)) {
        for (long part = 0; part < parts; part++) work(argument, part);
        return;
    }
    start_helpers(parts - 1 < MAX_HELPERS ? parts - 1 : MAX_HELPERS);
    /* No part can be taken until all is written. */
    const uint64_t turn = (uint64_t)(crew.turn + 1) << 32;
    __atomic_store_n(&crew.next, turn | 0xFFFFFFFF, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&crew.parts, parts, __ATOMIC_RELAXED);
    __atomic_store_n(&crew.work, work, __ATOMIC_RELAXED);
    __atomic_store_n(&crew.argument, argument, __ATOMIC_RELAXED);
    __atomic_store_n(&crew.left, parts, __ATOMIC_RELAXED);
    __atomic_store_n(&crew.next, turn, __ATOMIC_RELEASE);
    __atomic_store_n(&crew.turn, crew.turn + 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, &crew.turn, FUTEX_WAKE_PRIVATE, crew.helpers, 0, 0, 0);
    do_parts();
    for (int left; (left = __atomic_load_n(&crew.left, __ATOMIC_ACQUIRE));)
        syscall(SYS_futex, &crew.left, FUTEX_WAIT_PRIVATE, left, 0, 0, 0);
    pthread_mutex_unlock(&crew.in_use);
}
