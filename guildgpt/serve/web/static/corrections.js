// Corrections: reviewed before anything learns from them.
import { office } from "./office.js";
office();
