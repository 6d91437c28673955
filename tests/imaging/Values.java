import ij.ImagePlus;
import ij.io.Opener;
import java.util.TreeMap;

/** What ImageJ sees in a label image: unit and size of a pixel, then each value and its pixels. */
public class Values {
    public static void main(String[] args) {
        ImagePlus image = new Opener().openImage(args[0]);
        System.out.println(image.getCalibration().getUnit() + " " + image.getCalibration().pixelWidth);
        TreeMap<Double, Integer> pixels = new TreeMap<>();
        for (int y = 0; y < image.getHeight(); y++)
            for (int x = 0; x < image.getWidth(); x++)
                pixels.merge((double) image.getProcessor().getf(x, y), 1, Integer::sum);
        pixels.forEach((value, n) -> System.out.println(value + " " + n));
    }
}
