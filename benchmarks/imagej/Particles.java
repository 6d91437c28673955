import ij.IJ;
import ij.ImagePlus;
import ij.io.Opener;
import ij.measure.Measurements;
import ij.measure.ResultsTable;
import ij.plugin.filter.ParticleAnalyzer;
import ij.process.ImageProcessor;

/** ImageJ's Analyze Particles on one mask, without its windows: areas to a file, seconds out. */
public class Particles {
    public static void main(String[] args) throws Exception {
        ImagePlus mask = new Opener().openImage(args[0]);
        mask.getProcessor().setThreshold(1, 255, ImageProcessor.NO_LUT_UPDATE);
        int what = Measurements.AREA | Measurements.CENTROID | Measurements.PERIMETER
            | Measurements.FERET | Measurements.RECT;
        ResultsTable table = null;
        for (int round = 0; round < Integer.parseInt(args[2]); round++) {
            table = new ResultsTable();
            long started = System.nanoTime();
            new ParticleAnalyzer(0, what, table, 0, Double.POSITIVE_INFINITY).analyze(mask);
            System.out.println((System.nanoTime() - started) / 1e9);
        }
        table.save(args[1]);
    }
}
