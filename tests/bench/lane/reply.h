/* Reads one HTTP/1.1 reply in pieces as they come: by length, chunked, or to the end of the connection. */
#ifndef LANE_REPLY_H
#define LANE_REPLY_H

#include "common.h"

enum reply_state { HEAD, LENGTH, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER, TO_CLOSE, DONE, BROKEN };

struct reply {
    enum reply_state state;
    char head[16384]; /* the head, then a chunk's size line or a trailer */
    size_t held;
    int status;
    bool closes;
    int64_t left;   /* of the body, or of the chunk */
    int64_t bytes;  /* of body seen */
    int64_t events; /* of a stream: blank lines after a line */
    char last;
};

static inline void reply_start(struct reply *r) {
    r->state = HEAD;
    r->held = 0;
    r->status = 0;
    r->closes = false;
    r->bytes = r->events = 0;
    r->last = 0;
}

static inline void reply_head(struct reply *r) {
    r->head[r->held] = 0;
    r->left = -1;
    bool chunked = false;
    if (sscanf(r->head, "HTTP/1.%*d %d", &r->status) != 1) {
        r->state = BROKEN;
        return;
    }
    for (char *line = strstr(r->head, "\r\n"); line && line[2]; line = strstr(line + 2, "\r\n")) {
        char *field = line + 2;
        if (!strncasecmp(field, "content-length:", 15)) r->left = atoll(field + 15);
        else if (!strncasecmp(field, "transfer-encoding:", 18)) chunked = true;
        else if (!strncasecmp(field, "connection:", 11)) r->closes = !!strcasestr(field + 11, "close");
    }
    if (r->status == 100) reply_start(r);
    else if (chunked) r->state = CHUNK_SIZE;
    else if (r->left == 0 || r->status == 204 || r->status == 304) r->state = DONE;
    else if (r->left > 0) r->state = LENGTH;
    else r->state = TO_CLOSE, r->closes = true;
    r->held = 0;
}

static inline void reply_body(struct reply *r, const char *data, size_t size) {
    r->bytes += size;
    for (const char *at = data, *end = data + size; (at = memchr(at, '\n', end - at)); at++)
        if ((at > data ? at[-1] : r->last) == '\n') r->events++;
    r->last = data[size - 1];
}

/* Takes what belongs to this reply and says how much that was. */
static inline size_t reply_feed(struct reply *r, const char *data, size_t size) {
    size_t used = 0;
    while (used < size && r->state != DONE && r->state != BROKEN) {
        if (r->state == LENGTH || r->state == CHUNK || r->state == TO_CLOSE) {
            size_t part = size - used;
            if (r->state != TO_CLOSE && (int64_t)part > r->left) part = r->left;
            reply_body(r, data + used, part);
            used += part;
            r->left -= part;
            if (r->state == LENGTH && !r->left) r->state = DONE;
            if (r->state == CHUNK && !r->left) r->state = CHUNK_END;
            continue;
        }
        if (r->held + 1 >= sizeof r->head) {
            r->state = BROKEN;
            break;
        }
        char c = r->head[r->held++] = data[used++];
        if (c != '\n') continue;
        if (r->state == HEAD) {
            if (r->held >= 4 && !memcmp(r->head + r->held - 4, "\r\n\r\n", 4)) reply_head(r);
        } else {
            size_t line = r->held;
            r->held = 0;
            if (r->state == CHUNK_END) r->state = line == 2 ? CHUNK_SIZE : BROKEN;
            else if (r->state == TRAILER) r->state = line == 2 ? DONE : TRAILER;
            else {
                char *end;
                r->left = strtoll(r->head, &end, 16);
                r->state = end == r->head ? BROKEN : r->left ? CHUNK : TRAILER;
            }
        }
    }
    return used;
}

#endif
