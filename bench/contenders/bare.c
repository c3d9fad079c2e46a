/* The physical limit: what it costs to hand bytes to the kernel for every viewer, and nothing else.
 *
 * One thread, one epoll loop. Viewers connect with "GET /<run>" and get an event-stream header. The
 * publisher connects with "PUT" and then sends records of <run u32><length u32><bytes>; the bytes go
 * to every viewer of the run by one bare send() each. No log, no resume, no parsing, no buffering: a
 * full socket blocks the loop, so nothing can be lost and nothing is remembered.
 *
 * usage: bare PORT
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_RUNS = 65536, RECORD_BYTES = 1 << 20, HEADER_BYTES = 4096 };

static const char RESPONSE[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\r\n";

struct run {
  int *fds;
  int count, room;
};

static struct run runs[MAX_RUNS];
static char inbox[RECORD_BYTES];
static size_t held;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void send_all(int fd, const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t sent = send(fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes += sent;
      length -= (size_t)sent;
    } else if (errno == EAGAIN) {
      struct pollfd full = {.fd = fd, .events = POLLOUT};
      poll(&full, 1, -1);
    } else if (errno != EINTR) {
      return; /* the viewer has gone */
    }
  }
}

static void add_viewer(uint32_t number, int fd) {
  struct run *run = &runs[number % MAX_RUNS];
  if (run->count == run->room) {
    run->room = run->room ? run->room * 2 : 1;
    run->fds = realloc(run->fds, (size_t)run->room * sizeof *run->fds);
    if (!run->fds) die("realloc");
  }
  run->fds[run->count++] = fd;
  send_all(fd, RESPONSE, sizeof RESPONSE - 1);
}

/* Returns 0 when the publisher has gone. */
static int publish(int fd) {
  ssize_t got = recv(fd, inbox + held, sizeof inbox - held, 0);
  if (got <= 0) return 0;
  held += (size_t)got;
  size_t at = 0;
  while (held - at >= 8) {
    uint32_t number, length;
    memcpy(&number, inbox + at, 4);
    memcpy(&length, inbox + at + 4, 4);
    if (length > sizeof inbox - 8) exit(2);
    if (held - at - 8 < length) break;
    const struct run *run = &runs[number % MAX_RUNS];
    for (int i = 0; i < run->count; i++) send_all(run->fds[i], inbox + at + 8, length);
    at += 8 + length;
  }
  held -= at;
  memmove(inbox, inbox + at, held);
  return 1;
}

int main(int argc, char **argv) {
  if (argc != 2) return 64;
  struct rlimit files = {65536, 65536};
  if (setrlimit(RLIMIT_NOFILE, &files) != 0) {
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1, publisher = -1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)atoi(argv[1])),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0) die("bind");
  if (listen(listener, 4096) != 0) die("listen");
  int poller = epoll_create1(0);
  struct epoll_event want = {.events = EPOLLIN, .data.fd = listener}, ready[256];
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &want);
  for (;;) {
    int count = epoll_wait(poller, ready, 256, -1);
    for (int i = 0; i < count; i++) {
      int fd = ready[i].data.fd;
      if (fd == listener) {
        int viewer = accept(listener, NULL, NULL);
        if (viewer < 0) continue;
        setsockopt(viewer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        want.data.fd = viewer;
        epoll_ctl(poller, EPOLL_CTL_ADD, viewer, &want);
      } else if (fd == publisher) {
        if (!publish(fd)) {
          close(fd);
          publisher = -1;
          held = 0;
        }
      } else {
        char header[HEADER_BYTES];
        ssize_t got = recv(fd, header, 4, MSG_PEEK);
        if (got == 4 && memcmp(header, "PUT\n", 4) == 0) {
          recv(fd, header, 4, 0);
          publisher = fd;
          continue;
        }
        got = recv(fd, header, sizeof header - 1, 0);
        if (got <= 0) {
          close(fd); /* a viewer that leaves before the end of the run is not part of this */
          continue;
        }
        header[got] = 0;
        unsigned number;
        if (sscanf(header, "GET /%u", &number) == 1) add_viewer(number, fd);
      }
    }
  }
}
