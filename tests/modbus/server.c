/* A Modbus server that is not ours: libmodbus, for the tests of hark.
 *
 *   server rtu PATH BAUD UNIT    one unit on a serial line
 *   server tcp PORT              every unit, behind 127.0.0.1
 *
 * Says "ready" once it serves. Its tables are zero until a client writes them,
 * but for the input registers and discrete inputs, which no client can write:
 * input register n is 100 + n, discrete input n is set where n is odd.
 */
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

#define PLACES 200

static modbus_mapping_t *tables(void)
{
    modbus_mapping_t *map = modbus_mapping_new(PLACES, PLACES, PLACES, PLACES);
    if (map == NULL)
        exit(2);
    for (int n = 0; n < PLACES; n++) {
        map->tab_input_registers[n] = 100 + n;
        map->tab_input_bits[n] = n % 2;
    }
    return map;
}

static int ready(void)
{
    puts("ready");
    fflush(stdout);
    return 0;
}

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, modbus_strerror(errno));
    return 1;
}

static int serve_rtu(const char *path, int baud, int unit)
{
    modbus_t *ctx = modbus_new_rtu(path, baud, 'N', 8, 1);
    modbus_mapping_t *map = tables();
    uint8_t query[MODBUS_RTU_MAX_ADU_LENGTH];

    if (ctx == NULL || modbus_set_slave(ctx, unit) || modbus_connect(ctx))
        return fail(path);
    /* What another unit answers is waited for, and if that is dead, what comes
     * next is taken for it: so briefly that the master has not asked again. */
    modbus_set_response_timeout(ctx, 0, 50000);
    ready();
    for (;;) {
        int len = modbus_receive(ctx, query);
        if (len > 0)
            modbus_reply(ctx, query, len, map);
        else if (len < 0 && errno == EIO)
            return 0; /* the line is gone */
    }
}

static int serve_tcp(int port)
{
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", port);
    modbus_mapping_t *map = tables();
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    int listener = ctx == NULL ? -1 : modbus_tcp_listen(ctx, 8);
    fd_set open;

    if (listener < 0)
        return fail("listening");
    FD_ZERO(&open);
    FD_SET(listener, &open);
    ready();
    for (;;) {
        fd_set set = open;
        if (select(FD_SETSIZE, &set, NULL, NULL, NULL) < 0)
            return fail("waiting");
        for (int fd = 0; fd < FD_SETSIZE; fd++) {
            if (!FD_ISSET(fd, &set))
                continue;
            if (fd == listener) {
                if (modbus_tcp_accept(ctx, &listener) >= 0)
                    FD_SET(modbus_get_socket(ctx), &open);
                continue;
            }
            modbus_set_socket(ctx, fd);
            int len = modbus_receive(ctx, query);
            if (len > 0) {
                modbus_reply(ctx, query, len, map);
            } else if (len < 0) {
                close(fd);
                FD_CLR(fd, &open);
            }
        }
    }
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "rtu") == 0)
        return serve_rtu(argv[2], atoi(argv[3]), atoi(argv[4]));
    if (argc == 3 && strcmp(argv[1], "tcp") == 0)
        return serve_tcp(atoi(argv[2]));
    fprintf(stderr, "usage: %s rtu PATH BAUD UNIT | tcp PORT\n", argv[0]);
    return 2;
}
