/* The program on the device, here with readings from standard input: lines of x y z in g.
 * For each it prints which movement it is. Nothing is allocated; the state has a fixed size.
 *
 *   cc -std=c99 -O2 -I FOLDER_OF_MOTION_H main.c -o main -lm
 */
#include <stdio.h>
#include "motion.h"

static const char *const names[MOTION_OUTPUTS] = {"rest", "walk", "run"};
static motion_state state;

int main(void)
{
    float x[MOTION_INPUTS], y[MOTION_OUTPUTS];
    motion_reset(&state);
    while (scanf("%f %f %f", &x[0], &x[1], &x[2]) == MOTION_INPUTS) { /* on a device: the sensor */
        int i, best = 0;
        motion_step(&state, x, y);
        for (i = 1; i < MOTION_OUTPUTS; i++)
            if (y[i] > y[best]) best = i;
        printf("%s %.3f\n", names[best], (double)y[best]);
    }
    return 0;
}
