/* The upstream of the benchmark: OpenAI's chat endpoint as far as its bytes go, on one thread.

   Prints the port it listens on. A request with "stream":true gets a stream of `chunks` events, one every `every_us`
   microseconds (0: as fast as they are taken), each in a write of its own; any other POST gets a JSON reply of 700
   bytes; a GET gets a short list of models. Orders come on standard input, each answered by a line:
       set CHUNKS EVERY_US      what a stream is from now on
       count                    "WHOLE STREAMS CHUNKS BROKEN": replies and chunks sent, streams that the reader left */
#include "common.h"

#define WHOLE_BYTES 700
#define AT_ONCE 16 /* chunks to one stream before the next stream has its turn */

struct conn {
    int fd;
    bool streams, usage, waits; /* waits: for room in the socket */
    bool queued;                /* in the heap: is only freed when it leaves that */
    bool gone;
    char *in;
    size_t held, room;
    char *out; /* what the socket did not take */
    size_t pending, out_room;
    long sent; /* chunks */
    long chunks;
    int64_t every, due;
    uint64_t id;
};

static struct heap heap;
static int poller;
static long chunks = 100, whole_count, stream_count, chunk_count, broken_count;
static int64_t every_ns = 20000000;
static uint64_t ids;
static const char *words[8] = {" the", " taxi", "meter", " reads", " a", " distance", ",", " slowly"};

static void watch(struct conn *c, bool room) {
    struct epoll_event event = {EPOLLIN | (room ? EPOLLOUT : 0), {.ptr = c}};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
    c->waits = room;
}

static void drop(struct conn *c) {
    if (c->streams) broken_count++;
    close(c->fd);
    c->gone = true;
    if (c->queued) return;
    free(c->in);
    free(c->out);
    free(c);
}

/* False: the connection is lost. What the socket does not take is kept, and written when it has room. */
static bool put(struct conn *c, const char *data, size_t size) {
    ssize_t wrote = 0;
    if (!c->pending) {
        wrote = send(c->fd, data, size, MSG_NOSIGNAL);
        if (wrote < 0 && errno != EAGAIN) return false;
        if (wrote < 0) wrote = 0;
    }
    size_t rest = size - wrote;
    if (rest) {
        if (c->pending + rest > c->out_room) c->out = grown(c->out, c->out_room = 2 * (c->pending + rest));
        memcpy(c->out + c->pending, data + wrote, rest);
        c->pending += rest;
        if (!c->waits) watch(c, true);
    }
    return true;
}

static void queue(struct conn *c, int64_t due) {
    c->queued = true;
    heap_push(&heap, c->due = due, c);
}

static bool answer_whole(struct conn *c, bool is_get) {
    static const char list[] = "{\"object\":\"list\",\"data\":[{\"id\":\"gpt-4o-mini\",\"object\":\"model\"}]}";
    char body[WHOLE_BYTES + 256], reply[WHOLE_BYTES + 512];
    size_t size;
    whole_count++;
    if (is_get) {
        size = sizeof list - 1;
        memcpy(body, list, size);
    } else {
        static const char tail[] =
            "\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
            "\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":34,\"total_tokens\":53,"
            "\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},"
            "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0}},"
            "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_8bda4d3a2c\"}";
        size = sprintf(body,
                       "{\"id\":\"chatcmpl-%016llx\",\"object\":\"chat.completion\",\"created\":1795000000,"
                       "\"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[{\"index\":0,\"message\":{"
                       "\"role\":\"assistant\",\"content\":\"",
                       (unsigned long long)++ids);
        for (int i = 0; size + sizeof tail - 1 < WHOLE_BYTES; i++) {
            const char *word = words[i % 8];
            size_t part = strlen(word), room = WHOLE_BYTES - (sizeof tail - 1) - size;
            memcpy(body + size, word, part < room ? part : room);
            size += part < room ? part : room;
        }
        memcpy(body + size, tail, sizeof tail - 1);
        size += sizeof tail - 1;
    }
    size_t head = sprintf(reply,
                          "HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 00:00:00 GMT\r\nContent-Type: application/json\r\n"
                          "Content-Length: %zu\r\nConnection: keep-alive\r\nopenai-processing-ms: 12\r\n"
                          "openai-version: 2020-10-01\r\nx-request-id: req_%016llx\r\n\r\n",
                          size, (unsigned long long)ids);
    memcpy(reply + head, body, size);
    return put(c, reply, head + size);
}

static bool next_chunk(struct conn *c) {
    char event[1024], chunk[1100];
    size_t size = sprintf(event,
                          "data: {\"id\":\"chatcmpl-%016llx\",\"object\":\"chat.completion.chunk\","
                          "\"created\":1795000000,\"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\","
                          "\"system_fingerprint\":\"fp_8bda4d3a2c\",\"choices\":[",
                          (unsigned long long)c->id);
    bool last = ++c->sent >= c->chunks;
    if (last)
        size += sprintf(event + size, "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]");
    else
        size += sprintf(event + size, "{\"index\":0,\"delta\":{\"content\":\"%s\"},\"logprobs\":null,\"finish_reason\":null}]",
                        words[c->sent % 8]);
    size += sprintf(event + size, "%s,\"obfuscation\":\"Xy7aQ\"}\n\n", c->usage ? ",\"usage\":null" : "");
    size = sprintf(chunk, "%zx\r\n%s\r\n", size, event);
    chunk_count++;
    if (!put(c, chunk, size)) return false;
    if (!last) return true;
    c->streams = false;
    size = 0;
    if (c->usage) {
        size_t part = sprintf(event,
                              "data: {\"id\":\"chatcmpl-%016llx\",\"object\":\"chat.completion.chunk\","
                              "\"created\":1795000000,\"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\","
                              "\"system_fingerprint\":\"fp_8bda4d3a2c\",\"choices\":[],\"usage\":{\"prompt_tokens\":19,"
                              "\"completion_tokens\":%ld,\"total_tokens\":%ld}}\n\n",
                              (unsigned long long)c->id, c->chunks, c->chunks + 19);
        size = sprintf(chunk, "%zx\r\n%s\r\n", part, event);
    }
    size += sprintf(chunk + size, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    return put(c, chunk, size);
}

static bool start_stream(struct conn *c, bool usage) {
    char head[512];
    c->streams = true;
    c->usage = usage;
    c->sent = 0;
    c->chunks = chunks;
    c->every = every_ns;
    c->id = ++ids;
    stream_count++;
    sprintf(head,
            "HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 00:00:00 GMT\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
            "Transfer-Encoding: chunked\r\nConnection: keep-alive\r\nopenai-processing-ms: 12\r\n"
            "openai-version: 2020-10-01\r\nx-request-id: req_%016llx\r\n\r\n",
            (unsigned long long)ids);
    if (!put(c, head, strlen(head)) || !next_chunk(c)) return false;
    /* The second chunk at any moment of the interval, else streams opened together would beat together for ever. */
    if (c->streams) queue(c, now_ns() + (c->every ? random() % c->every : 0));
    return true;
}

/* One whole request at the front of what was read: answered and taken away. False: the connection is lost. */
static bool serve(struct conn *c) {
    while (!c->streams) {
        char *end = c->held ? memmem(c->in, c->held, "\r\n\r\n", 4) : NULL;
        if (!end) return true;
        size_t head = end + 4 - c->in, size = head;
        char was = *end;
        *end = 0;
        char *length = strcasestr(c->in, "\r\ncontent-length:");
        bool chunked = strcasestr(c->in, "\r\ntransfer-encoding:") != NULL;
        *end = was;
        if (length) size += atol(length + 17);
        if (chunked) {
            char *tail = memmem(c->in + head - 2, c->held - head + 2, "\r\n0\r\n\r\n", 7);
            size = tail ? (size_t)(tail + 7 - c->in) : c->held + 1;
        }
        if (c->held < size) return true;
        bool stream = memmem(c->in + head, size - head, "\"stream\":true", 13) ||
                      memmem(c->in + head, size - head, "\"stream\": true", 14);
        bool usage = memmem(c->in + head, size - head, "\"include_usage\":true", 20) ||
                     memmem(c->in + head, size - head, "\"include_usage\": true", 21);
        bool is_get = !strncmp(c->in, "GET ", 4);
        memmove(c->in, c->in + size, c->held - size);
        c->held -= size;
        if (!(stream ? start_stream(c, usage) : answer_whole(c, is_get))) return false;
    }
    return true;
}

static bool take(struct conn *c) {
    if (c->room - c->held < 16384) c->in = grown(c->in, c->room = c->room ? 2 * c->room : 16384);
    ssize_t got = recv(c->fd, c->in + c->held, c->room - c->held - 1, 0);
    if (got < 0) return errno == EAGAIN;
    if (!got) return false;
    c->held += got;
    c->in[c->held] = 0;
    return serve(c);
}

static bool flush(struct conn *c) {
    ssize_t wrote = send(c->fd, c->out, c->pending, MSG_NOSIGNAL);
    if (wrote < 0) return errno == EAGAIN;
    memmove(c->out, c->out + wrote, c->pending - wrote);
    c->pending -= wrote;
    if (c->pending) return true;
    watch(c, false);
    if (c->streams && !c->queued) queue(c, now_ns());
    return c->streams || serve(c);
}

static void beat(int64_t now) {
    while (heap.count && heap.items[0].due <= now) {
        struct conn *c = heap_pop(&heap);
        c->queued = false;
        if (c->gone) {
            free(c->in);
            free(c->out);
            free(c);
            continue;
        }
        bool lives = true;
        for (int i = 0; i < (c->every ? 1 : AT_ONCE) && c->streams && !c->pending && lives; i++) lives = next_chunk(c);
        if (lives && !c->streams) lives = serve(c);
        if (!lives) drop(c);
        else if (c->streams && !c->queued && (c->every || !c->pending)) {
            /* Behind by more than a second (a reader that stalled): what was missed is not sent in one go. */
            int64_t due = c->every ? c->due + c->every : now + 1;
            queue(c, due < now - SECOND ? now : due);
        }
    }
}

static void orders(void) {
    char text[256];
    ssize_t got = read(0, text, sizeof text - 1);
    if (got <= 0) exit(0);
    text[got] = 0;
    long count, us;
    if (sscanf(text, "set %ld %ld", &count, &us) == 2) {
        chunks = count;
        every_ns = us * 1000;
        printf("ok\n");
    } else
        printf("%ld %ld %ld %ld\n", whole_count, stream_count, chunk_count, broken_count);
    fflush(stdout);
}

int main(void) {
    all_descriptors();
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    if (bind(listener, (void *)&at, size) || listen(listener, 4096)) die("listen");
    getsockname(listener, (void *)&at, &size);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);

    poller = epoll_create1(0);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct conn listening, ticking, told; /* only their addresses matter */
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &(struct epoll_event){EPOLLIN, {.ptr = &listening}});
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &(struct epoll_event){EPOLLIN, {.ptr = &ticking}});
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &(struct epoll_event){EPOLLIN, {.ptr = &told}});
    for (int64_t armed = 0;;) {
        int64_t now = now_ns();
        beat(now);
        bool hurry = heap.count && heap.items[0].due <= now_ns();
        if (heap.count && !hurry && heap.items[0].due != armed) wake_at(timer, armed = heap.items[0].due);
        struct epoll_event events[256];
        int got = epoll_wait(poller, events, 256, hurry ? 0 : -1);
        for (int i = 0; i < got; i++) {
            struct conn *c = events[i].data.ptr;
            if (c == &listening) {
                for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
                    nodelay(fd);
                    struct conn *new = calloc(1, sizeof *new);
                    new->fd = fd;
                    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &(struct epoll_event){EPOLLIN, {.ptr = new}});
                }
            } else if (c == &ticking) {
                uint64_t beats;
                if (read(timer, &beats, sizeof beats) > 0) armed = 0;
            } else if (c == &told)
                orders();
            else {
                bool lives = true;
                if (events[i].events & EPOLLOUT && c->pending) lives = flush(c);
                if (lives && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) lives = take(c);
                if (!lives) drop(c);
            }
        }
    }
}
