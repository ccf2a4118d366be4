/* Writes down every connection and every name that a program asks for: preloaded before the C library, whose functions
 * it calls. One line each into the file that RECORD_TO names. Used by the test of the same folder. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void record(const char *line) {
    const char *path = getenv("RECORD_TO");
    int file = path ? open(path, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
    if (file >= 0) {
        /* One write is one line, whatever else writes. */
        ssize_t written = write(file, line, strlen(line));
        (void)written;
        close(file);
    }
}

static void record_address(const char *what, const struct sockaddr *address) {
    char host[INET6_ADDRSTRLEN] = "?", line[128];
    int port = 0;
    if (address == NULL) return;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *four = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &four->sin_addr, host, sizeof host);
        port = ntohs(four->sin_port);
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
        inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof host);
        port = ntohs(six->sin6_port);
    } else {
        return; /* Sockets of this machine's file system go nowhere. */
    }
    snprintf(line, sizeof line, "%s %s %d\n", what, host, port);
    record(line);
}

int connect(int socket, const struct sockaddr *address, socklen_t length) {
    static int (*real)(int, const struct sockaddr *, socklen_t);
    if (!real) real = (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect");
    record_address("connect", address);
    return real(socket, address, length);
}

ssize_t sendto(int socket, const void *bytes, size_t count, int flags, const struct sockaddr *address, socklen_t length) {
    static ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
    if (!real)
        real = (ssize_t(*)(int, const void *, size_t, int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "sendto");
    record_address("sendto", address);
    return real(socket, bytes, count, flags, address, length);
}

int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **found) {
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    char line[320];
    if (!real)
        real = (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(RTLD_NEXT, "getaddrinfo");
    snprintf(line, sizeof line, "resolve %.255s\n", host ? host : "-");
    record(line);
    return real(host, port, hints, found);
}
