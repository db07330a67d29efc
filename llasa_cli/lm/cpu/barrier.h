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
