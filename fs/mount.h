/* SPDX-License-Identifier: Apache-2.0 */
/* mount.h - the commands `chipmink mount` and `chipmink umount`. */
#ifndef CM_MOUNT_H
#define CM_MOUNT_H

/*
 * Both take the command's arguments with argv[0] its name, print to stdout and stderr, and return the exit code: 0; 1 after
 * a failure, told in one line on stderr; 2 when the arguments are wrong. They must be called while the process has no other
 * threads and no store open: mounting forks.
 */

/* mount [--store DIR] [--session NAME] [--embedded] [--foreground] [--allow-other] DIR: returns 0 when the tree can be read (foreground: has ended). */
int cm_mount_main(int argc, char **argv);
/* umount [--lazy] DIR: returns 0 when nothing is mounted there any more and the daemon has ended. */
int cm_umount_main(int argc, char **argv);

#endif
