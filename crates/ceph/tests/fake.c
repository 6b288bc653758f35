/* Stands in for librados and librbd in tests: one image in memory, whose operations a thread of its own ends, later or when it is
   let. It counts what is open, so that a test sees what was left. With OLD it is a librbd that lacks what not all have. */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define SIZE (64 << 10)
#define OBJECT 4096

typedef void (*callback)(void *, void *);
struct operation { char kind; uint64_t offset; size_t length; char *into; const char *from; struct completion *done; struct operation *next; };
struct completion { void *argument; callback call; ssize_t result; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct operation *first, **last = &first;
static int held, refused, at_once, started, clusters, pools, images, completions, busy;
static uint64_t size = SIZE;
static char disk[4 * SIZE], configured[256];
static bool there[4 * SIZE / OBJECT];
static int snapshots;
static char names[256][16];

static void perform(struct operation *o) {
    ssize_t result = 0;
    if (o->offset + o->length > size) result = -EINVAL;
    else if (o->kind == 'r') { memcpy(o->into, disk + o->offset, o->length); result = o->length; }
    else if (o->kind == 'w') memcpy(disk + o->offset, o->from, o->length);
    else if (o->kind == 'z') memset(disk + o->offset, 0, o->length);
    if (result >= 0 && o->length > 0 && o->kind != 'r')
        for (uint64_t at = o->offset / OBJECT; at <= (o->offset + o->length - 1) / OBJECT; at++) there[at] = o->kind == 'w';
    o->done->result = result;
    o->done->call(o->done, o->done->argument);
    free(o);
}

static void *worker(void *unused) {
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&lock);
        while (held || !first) pthread_cond_wait(&changed, &lock);
        struct operation *o = first;
        first = o->next;
        if (!first) last = &first;
        busy = 1;
        pthread_mutex_unlock(&lock);
        perform(o);
        pthread_mutex_lock(&lock);
        busy = 0;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static int begin(struct operation from) {
    if (refused) return -refused;
    struct operation *o = malloc(sizeof *o);
    *o = from;
    o->next = NULL;
    if (at_once) { perform(o); return 0; }
    pthread_mutex_lock(&lock);
    if (!started++) { pthread_t thread; pthread_create(&thread, NULL, worker, NULL); }
    *last = o;
    last = &o->next;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return 0;
}

/* What the tests set and look at. */
void fake_hold(int on) { pthread_mutex_lock(&lock); held = on; pthread_cond_broadcast(&changed); pthread_mutex_unlock(&lock); }
void fake_refuse(int error) { refused = error; }
void fake_at_once(int on) { at_once = on; }
void fake_snapshots(int count) { snapshots = count; }
int fake_open(void) { return clusters + pools + images + completions; }
int fake_images(void) { return images; }

int rados_create(void **cluster, const char *user) { (void)user; __sync_fetch_and_add(&clusters, 1); *cluster = &clusters; return 0; }
void rados_shutdown(void *cluster) { (void)cluster; __sync_fetch_and_sub(&clusters, 1); }
int rados_conf_read_file(void *cluster, const char *path) { (void)cluster; return path && strcmp(path, "there") ? -ENOENT : 0; }
int rados_conf_set(void *cluster, const char *name, const char *value) {
    (void)cluster;
    if (strcmp(name, "known")) return -ENOENT;
    strncpy(configured, value, sizeof configured - 1);
    return 0;
}
int rados_conf_get(void *cluster, const char *name, char *into, size_t room) {
    (void)cluster;
    if (strcmp(name, "known")) return -ENOENT;
    if (strlen(configured) >= room) return -ENAMETOOLONG;
    strcpy(into, configured);
    return 0;
}
int rados_connect(void *cluster) { (void)cluster; return 0; }
int rados_cluster_fsid(void *cluster, char *into, size_t room) { (void)cluster; strncpy(into, "of-the-fake", room); return 11; }
int rados_ioctx_create(void *cluster, const char *name, void **pool) {
    (void)cluster;
    if (strcmp(name, "pool")) return -ENOENT;
    __sync_fetch_and_add(&pools, 1);
    *pool = &pools;
    return 0;
}
void rados_ioctx_destroy(void *pool) { (void)pool; __sync_fetch_and_sub(&pools, 1); }
void rados_ioctx_set_namespace(void *pool, const char *name) { (void)pool; (void)name; }

void rbd_version(int *major, int *minor, int *extra) { *major = 1; *minor = 19; *extra = 0; }
int rbd_create(void *pool, const char *name, uint64_t bytes, int *order) { (void)pool; (void)name; (void)bytes; *order = 12; return -EEXIST; }
int rbd_remove(void *pool, const char *name) { (void)pool; (void)name; return -ENOENT; }
int rbd_open(void *pool, const char *name, void **image, const char *snapshot) {
    (void)pool;
    if (strcmp(name, "image") || (snapshot && strcmp(snapshot, "s1"))) return -ENOENT;
    __sync_fetch_and_add(&images, 1);
    *image = disk;
    return 0;
}
int rbd_open_read_only(void *pool, const char *name, void **image, const char *snapshot) { return rbd_open(pool, name, image, snapshot); }
int rbd_close(void *image) {
    (void)image;
    pthread_mutex_lock(&lock);
    /* As librbd does it: closing waits for what is under way, so that a completion that closes never ends. */
    while (first || busy) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    __sync_fetch_and_sub(&images, 1);
    return 0;
}
struct info { uint64_t size, object, count; int order; char prefix[24]; int64_t pool; char parent[96]; };
int rbd_stat(void *image, struct info *info, size_t length) {
    (void)image;
    if (length != sizeof *info) return -EINVAL;
    *info = (struct info){ size, OBJECT, size / OBJECT, 12, "", 0, "" };
    return 0;
}
int rbd_get_size(void *image, uint64_t *bytes) { (void)image; *bytes = size; return 0; }
int rbd_get_features(void *image, uint64_t *features) { (void)image; *features = 1 << 4; return 0; }
int rbd_get_flags(void *image, uint64_t *flags) { (void)image; *flags = 0; return 0; }
int rbd_get_overlap(void *image, uint64_t *overlap) { (void)image; *overlap = 0; return 0; }
int rbd_resize(void *image, uint64_t bytes) { (void)image; if (bytes > sizeof disk) return -ENOSPC; size = bytes; return 0; }
int rbd_invalidate_cache(void *image) { (void)image; return 0; }
struct snapshot { uint64_t id, size; const char *name; };
int rbd_snap_list(void *image, struct snapshot *into, int *room) {
    (void)image;
    if (*room < snapshots + 1) { *room = snapshots + 1; return -ERANGE; }
    for (int i = 0; i < snapshots; i++) {
        strcpy(names[i], "s000");
        names[i][1] += i / 100; names[i][2] += i / 10 % 10; names[i][3] += i % 10;
        into[i] = (struct snapshot){ i, SIZE, names[i] };
    }
    into[snapshots] = (struct snapshot){ 0, 0, NULL };
    return snapshots;
}
void rbd_snap_list_end(struct snapshot *list) { while (list->name) list++; }
int rbd_snap_create(void *image, const char *name) { (void)image; return strcmp(name, "new") ? -EEXIST : 0; }
int rbd_snap_remove(void *image, const char *name) { (void)image; (void)name; return -EBUSY; }
int rbd_snap_rollback(void *image, const char *name) { (void)image; (void)name; return 0; }
int rbd_snap_set(void *image, const char *name) { (void)image; (void)name; return 0; }
int rbd_diff_iterate2(void *image, const char *from, uint64_t offset, uint64_t length, uint8_t parent, uint8_t whole,
                      int (*call)(uint64_t, size_t, int, void *), void *argument) {
    (void)image; (void)from; (void)parent; (void)whole;
    for (uint64_t at = offset / OBJECT; at * OBJECT < offset + length; at++) {
        int answer = there[at] ? call(at * OBJECT, OBJECT, 1, argument) : 0;
        if (answer) return answer;
    }
    return 0;
}
int rbd_aio_create_completion(void *argument, callback call, void **completion) {
    struct completion *made = malloc(sizeof *made);
    *made = (struct completion){ argument, call, 0 };
    *completion = made;
    __sync_fetch_and_add(&completions, 1);
    return 0;
}
void rbd_aio_release(void *completion) { free(completion); __sync_fetch_and_sub(&completions, 1); }
ssize_t rbd_aio_get_return_value(void *completion) { return ((struct completion *)completion)->result; }
int rbd_aio_read(void *image, uint64_t offset, size_t length, char *into, void *done) {
    (void)image;
    return begin((struct operation){ 'r', offset, length, into, NULL, done, NULL });
}
int rbd_aio_write(void *image, uint64_t offset, size_t length, const char *from, void *done) {
    (void)image;
    return begin((struct operation){ 'w', offset, length, NULL, from, done, NULL });
}
int rbd_aio_discard(void *image, uint64_t offset, uint64_t length, void *done) {
    (void)image;
    return begin((struct operation){ 'z', offset, length, NULL, NULL, done, NULL });
}
int rbd_aio_flush(void *image, void *done) { (void)image; return begin((struct operation){ 'f', 0, 0, NULL, NULL, done, NULL }); }
#ifndef OLD
int rbd_namespace_exists(void *pool, const char *name, bool *found) { (void)pool; *found = !strcmp(name, "space"); return 0; }
int rbd_aio_write_zeroes(void *image, uint64_t offset, size_t length, void *done, int flags, int more) {
    (void)image; (void)flags; (void)more;
    return begin((struct operation){ 'z', offset, length, NULL, NULL, done, NULL });
}
#endif
