/* The load of the benchmark, on one thread. Reads the bytes of one request from standard input and sends them as

       load closed PORT CONNECTIONS SECONDS [REQUESTS [PERCENT]]    each connection again as soon as it was answered
       load rate   PORT PER_SECOND SECONDS [REQUESTS [PERCENT]]     at fixed moments, on as many connections as it takes
       load idle   PORT CONNECTIONS                                 once on each connection, which is then kept open

   and prints one JSON object. A latency counts from the moment at which the request was DUE, so a server that stalls
   cannot hide what it kept waiting (no coordinated omission). `idle` prints when all are open, then waits for SIGTERM;
   `closed` ends early at SIGTERM, breaking off what runs. REQUESTS: at most so many (-1: no limit). PERCENT of the
   clients leave: half of them at once when the request is sent, half after up to 50 events. */
#include "reply.h"

#define MOST 30000 /* connections */
#define AT_ONCE 64 /* connections that `idle` opens at the same time */

struct conn {
    int fd;
    bool busy, connecting;
    size_t sent;
    int64_t due, first, leaves; /* leaves: after so many events; -1: stays */
    struct reply reply;
};

static struct conn *conns[MOST], *unused[MOST];
static size_t conn_count, unused_count;
static int poller;
static struct sockaddr_in server = {.sin_family = AF_INET};
static char request[1 << 20];
static size_t request_size;

static int64_t *latencies, *firsts;
static size_t latency_count, latency_room, first_count, first_room;
static long statuses[600], errors, left, percent, events_seen, started, bytes;
static int64_t *waiting; /* due moments for which no connection was to be had */
static size_t waiting_from, waiting_to, waiting_room;

static enum { CLOSED, RATE, IDLE } mode;
static int64_t until;
static long most = -1, idle_wanted;
static volatile sig_atomic_t told_to_end;

static void note(int64_t **list, size_t *count, size_t *room, int64_t value) {
    if (*count == *room) *list = grown(*list, (*room = *room ? 2 * *room : 65536) * sizeof value);
    (*list)[(*count)++] = value;
}

static bool may_start(void) {
    return !told_to_end && (most < 0 || started < most) && (mode == IDLE || now_ns() < until);
}

static void lost(struct conn *c);
static void leave(struct conn *c);

static void send_rest(struct conn *c) {
    ssize_t wrote = send(c->fd, request + c->sent, request_size - c->sent, MSG_NOSIGNAL);
    if (wrote < 0 && errno != EAGAIN && errno != EINTR) {
        lost(c);
        return;
    }
    bool had_to_wait = c->connecting || c->sent;
    c->connecting = false;
    if (wrote > 0) c->sent += wrote;
    bool waits = c->sent < request_size;
    if (waits || had_to_wait)
        epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &(struct epoll_event){EPOLLIN | (waits ? EPOLLOUT : 0), {.ptr = c}});
    if (!waits && !c->leaves) leave(c);
}

static void begin(struct conn *c, int64_t due) {
    started++;
    c->busy = true;
    c->due = due;
    c->first = 0;
    c->sent = 0;
    c->leaves = random() % 100 >= percent ? -1 : random() % 2 ? 0 : 1 + random() % 50;
    reply_start(&c->reply);
    if (c->fd >= 0) {
        send_rest(c);
        return;
    }
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) die("socket");
    nodelay(c->fd);
    if (connect(c->fd, (void *)&server, sizeof server) && errno != EINPROGRESS) die("connect");
    c->connecting = true;
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &(struct epoll_event){EPOLLIN | EPOLLOUT, {.ptr = c}});
}

static struct conn *new_conn(void) {
    if (conn_count == MOST) return NULL;
    struct conn *c = conns[conn_count++] = grown(NULL, sizeof *c);
    memset(c, 0, sizeof *c);
    c->fd = -1;
    return c;
}

/* The request is over, one way or the other: what this connection does next. */
static void next(struct conn *c) {
    c->busy = false;
    if (mode == CLOSED) {
        if (may_start()) begin(c, now_ns());
    } else if (mode == RATE) {
        if (waiting_from < waiting_to) begin(c, waiting[waiting_from++]);
        else unused[unused_count++] = c;
    } else if (may_start()) {
        begin(new_conn(), now_ns());
    }
}

static void hang_up(struct conn *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

static void lost(struct conn *c) {
    hang_up(c);
    if (!c->busy) return; /* the server ended an idle connection, as it may */
    if (errors++ > 10000) {
        fprintf(stderr, "more than 10000 requests failed\n");
        exit(1);
    }
    next(c);
}

static void leave(struct conn *c) {
    left++;
    hang_up(c);
    next(c);
}

static void finished(struct conn *c) {
    struct reply *r = &c->reply;
    statuses[r->status > 0 && r->status < 600 ? r->status : 0]++;
    events_seen += r->events;
    bytes += r->bytes;
    note(&latencies, &latency_count, &latency_room, now_ns() - c->due);
    if (c->first) note(&firsts, &first_count, &first_room, c->first - c->due);
    if (r->closes) hang_up(c);
    next(c);
}

static void take(struct conn *c) {
    static char data[1 << 18];
    ssize_t got = recv(c->fd, data, sizeof data, 0);
    if (got < 0) {
        if (errno != EAGAIN) lost(c);
        return;
    }
    if (!c->busy || !got) {
        if (c->busy && c->reply.state == TO_CLOSE) finished(c);
        else lost(c);
        return;
    }
    reply_feed(&c->reply, data, got);
    if (!c->first && c->reply.bytes) c->first = now_ns();
    if (c->reply.state == BROKEN) lost(c);
    else if (c->reply.state == DONE) finished(c);
    else if (c->leaves > 0 && c->reply.events >= c->leaves) leave(c);
}

static void one_at(int64_t due) {
    struct conn *c = NULL;
    /* The one that was used last, as pools of clients do; a lost one is connected anew. */
    if (unused_count) c = unused[--unused_count];
    else if (conn_count < 4096) c = new_conn();
    if (c) begin(c, due);
    else {
        if (waiting_to == waiting_room) waiting = grown(waiting, (waiting_room = 2 * waiting_room + 4096) * sizeof due);
        waiting[waiting_to++] = due;
    }
}

static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void print_quantiles(const char *name, int64_t *list, size_t count) {
    qsort(list, count, sizeof *list, by_size);
    printf(", \"%s\": {", name);
    static const double parts[] = {0.5, 0.9, 0.99, 0.999, 1};
    static const char *names[] = {"p50", "p90", "p99", "p999", "max"};
    for (int i = 0; i < 5 && count; i++) {
        size_t at = (size_t)(parts[i] * count);
        printf("%s\"%s\": %.1f", i ? ", " : "", names[i], list[at < count ? at : count - 1] / 1e3);
    }
    printf("}");
}

static void print_all(int64_t began) {
    printf("{\"requests\": %zu, \"errors\": %ld, \"events\": %ld, \"bytes\": %ld, \"seconds\": %.3f, \"connections\": %zu, "
           "\"left\": %ld, \"unfinished\": %ld, \"statuses\": {",
           latency_count, errors, events_seen, bytes, (now_ns() - began) / 1e9, conn_count, left,
           started - (long)latency_count - errors - left + (long)(waiting_to - waiting_from));
    for (int i = 0, any = 0; i < 600; i++)
        if (statuses[i]) printf("%s\"%d\": %ld", any++ ? ", " : "", i, statuses[i]);
    printf("}");
    print_quantiles("latency_us", latencies, latency_count);
    print_quantiles("first_us", firsts, first_count);
    printf("}\n");
    fflush(stdout);
}

static void end(int number) {
    (void)number;
    told_to_end = 1;
}

static bool all_done(void) {
    if (told_to_end) return true;
    if (mode == IDLE) return false;
    if (now_ns() > until + 60 * SECOND) return true; /* what is not answered by then counts as unfinished */
    if (may_start() && mode == RATE) return false;
    if (waiting_from < waiting_to) return false;
    for (size_t i = 0; i < conn_count; i++)
        if (conns[i]->busy) return false;
    return true;
}

int main(int count, char **words) {
    if (count < 4) return fprintf(stderr, "see the head of load.c\n"), 2;
    mode = !strcmp(words[1], "rate") ? RATE : !strcmp(words[1], "idle") ? IDLE : CLOSED;
    double number = atof(words[3]), seconds = count > 4 ? atof(words[4]) : 0;
    server.sin_port = htons(atoi(words[2]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (count > 5) most = atol(words[5]);
    if (count > 6) percent = atol(words[6]);
    for (ssize_t got; (got = read(0, request + request_size, sizeof request - request_size)) > 0;) request_size += got;
    all_descriptors();
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = end}, NULL);

    poller = epoll_create1(0);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &(struct epoll_event){EPOLLIN, {.ptr = NULL}});
    int64_t began = now_ns(), beat = mode == RATE ? (int64_t)(SECOND / number) : 0, due = began + SECOND / 100;
    until = began + (int64_t)(seconds * SECOND);
    if (mode == RATE) until += SECOND / 100, wake_at(timer, due);
    else {
        if (mode == IDLE) most = idle_wanted = (long)number;
        for (long i = 0; i < number && (mode == CLOSED || i < AT_ONCE) && may_start(); i++) begin(new_conn(), now_ns());
    }
    for (bool said = false; !all_done();) {
        struct epoll_event events[512];
        int got = epoll_wait(poller, events, 512, 50);
        for (int i = 0; i < got; i++) {
            struct conn *c = events[i].data.ptr;
            if (!c) {
                uint64_t beats;
                if (read(timer, &beats, sizeof beats) < 0) continue;
                for (; due <= now_ns() && due < until; due += beat) one_at(due);
                if (due < until) wake_at(timer, due);
            } else if (c->fd >= 0) {
                if (events[i].events & EPOLLOUT && c->busy && c->sent < request_size) send_rest(c);
                if (c->fd >= 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) take(c);
            }
        }
        if (mode == IDLE && !said && (long)latency_count + errors >= idle_wanted) said = true, print_all(began);
    }
    if (mode != IDLE) print_all(began);
    return 0;
}
