/* What the load generator and the upstream share: the clock, and a heap of what is due. */
#ifndef LANE_COMMON_H
#define LANE_COMMON_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

static inline int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static inline void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static inline void *grown(void *old, size_t bytes) {
    void *new = realloc(old, bytes);
    if (!new) die("memory");
    return new;
}

static inline void nodelay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static inline void all_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* One timer descriptor wakes the loop at the next due moment, to the microsecond: epoll_wait alone counts in ms. */
static inline void wake_at(int timer, int64_t due) {
    struct itimerspec when = {{0, 0}, {due / SECOND, due % SECOND}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

/* A binary heap by `due`: who comes next is heap.items[0]. */
struct due {
    int64_t due;
    void *who;
};
struct heap {
    struct due *items;
    size_t count, room;
};

static inline void heap_push(struct heap *h, int64_t due, void *who) {
    if (h->count == h->room) {
        h->room = h->room ? 2 * h->room : 1024;
        h->items = grown(h->items, h->room * sizeof *h->items);
    }
    size_t i = h->count++;
    while (i && h->items[(i - 1) / 2].due > due) {
        h->items[i] = h->items[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h->items[i] = (struct due){due, who};
}

static inline void *heap_pop(struct heap *h) {
    void *first = h->items[0].who;
    struct due last = h->items[--h->count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= h->count) break;
        if (child + 1 < h->count && h->items[child + 1].due < h->items[child].due) child++;
        if (h->items[child].due >= last.due) break;
        h->items[i] = h->items[child];
        i = child;
    }
    if (h->count) h->items[i] = last;
    return first;
}

#endif
