/*  A Majordomo worker (RFC 7) in C, with libzmq and nothing else. It replies in capitals.

        cc -O2 -Wall -o worker worker.c -lzmq && ./worker tcp://127.0.0.1:5555 upper

    It says READY, answers one request at a time, beats every 2.5 s, and opens a new socket when the broker
    says DISCONNECT or is silent for three beats. Work may come twice: that is for the worker to bear.  */

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

#define HEARTBEAT_MS 2500
#define LIVENESS 3
#define FRAMES_MAX 64

enum { READY = 1, REQUEST, REPLY, HEARTBEAT, DISCONNECT };

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*  The three frames every command begins with; `more` if others follow.  */
static void send_command(void *socket, uint8_t command, int more)
{
    zmq_send(socket, "", 0, ZMQ_SNDMORE);
    zmq_send(socket, "MDPW01", 6, ZMQ_SNDMORE);
    zmq_send(socket, &command, 1, more ? ZMQ_SNDMORE : 0);
}

/*  All frames of one message. Returns how many there are; what does not fit is thrown away.  */
static int receive(void *socket, zmq_msg_t *frames)
{
    int count = 0, more = 1;
    while (more) {
        zmq_msg_t extra;
        zmq_msg_t *frame = count < FRAMES_MAX ? &frames[count++] : &extra;
        zmq_msg_init(frame);
        if (zmq_msg_recv(frame, socket, 0) < 0) {
            zmq_msg_close(frame);
            return frame == &extra ? count : count - 1;
        }
        more = zmq_msg_more(frame);
        if (frame == &extra)
            zmq_msg_close(frame);
    }
    return count;
}

/*  Frames 3, 4 and the rest are the client's address, an empty frame and the body.  */
static void answer(void *socket, zmq_msg_t *frames, int count)
{
    send_command(socket, REPLY, 1);
    zmq_send(socket, zmq_msg_data(&frames[3]), zmq_msg_size(&frames[3]), ZMQ_SNDMORE);
    zmq_send(socket, "", 0, ZMQ_SNDMORE);
    for (int i = 5; i < count; i++) {
        char *text = zmq_msg_data(&frames[i]);
        size_t size = zmq_msg_size(&frames[i]);
        for (size_t at = 0; at < size; at++)
            text[at] = (char) toupper((unsigned char) text[at]);
        zmq_send(socket, text, size, i + 1 < count ? ZMQ_SNDMORE : 0);
    }
}

/*  From READY until the broker is gone.  */
static void session(void *context, const char *endpoint, const char *service)
{
    void *socket = zmq_socket(context, ZMQ_DEALER);
    int linger = 0, over = 0;
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    if (zmq_connect(socket, endpoint) != 0) {
        fprintf(stderr, "cannot connect to %s: %s\n", endpoint, zmq_strerror(zmq_errno()));
        zmq_close(socket);
        return;
    }
    send_command(socket, READY, 1);
    zmq_send(socket, service, strlen(service), 0);

    int64_t heard = now_ms(), beaten = heard;
    while (!over && now_ms() - heard < HEARTBEAT_MS * LIVENESS) {
        zmq_pollitem_t item = { socket, 0, ZMQ_POLLIN, 0 };
        if (zmq_poll(&item, 1, HEARTBEAT_MS / 2) > 0) {
            zmq_msg_t frames[FRAMES_MAX];
            int count = receive(socket, frames);
            int command = count >= 3 && zmq_msg_size(&frames[2]) == 1 ? *(uint8_t *) zmq_msg_data(&frames[2]) : 0;
            heard = now_ms();
            if (command == REQUEST && count >= 6)
                answer(socket, frames, count);
            over = command == DISCONNECT;
            for (int i = 0; i < count; i++)
                zmq_msg_close(&frames[i]);
        }
        if (now_ms() - beaten >= HEARTBEAT_MS) {
            beaten = now_ms();
            send_command(socket, HEARTBEAT, 0);
        }
    }
    zmq_close(socket);
}

int main(int count, char **words)
{
    const char *endpoint = count > 1 ? words[1] : "tcp://127.0.0.1:5555";
    const char *service = count > 2 ? words[2] : "upper";
    void *context = zmq_ctx_new();
    for (;;)
        session(context, endpoint, service);
}
